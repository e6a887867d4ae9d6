"""Each image's logits as the head would give them that was solved from all other images.

That takes no second factorisation: leaving an image out changes one mean and, by one outer product, the covariance
(Sherman & Morrison, Annals of Mathematical Statistics 1950) and the sketch of its class' own (`model.covariances`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.covariances import CLOSEST, low_rank, whitened_directions, whitened_sketch
from model.head import IMAGES_AT_ONCE, Discriminant, separation
from model.moments import probes
from model.widths import widths

MOST = 1024
"""Images left out at most, one after another; more would cost time and tell little."""
LEAST_JUDGED = 0.5
"""Share of classes with an image to spare, of a head that is judged: those of fewer would speak for all the others."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Images that judge a discriminant, each as if that had been solved without it.  m images, C classes.

    features: [m, F], all of them in the moments.  rows: [m], their classes, each of two images or more.
    distances: [m, C], see `left_out_distances`.
    """

    features: Tensor
    rows: Tensor
    distances: Tensor

    @classmethod
    def of(cls, discriminant: Discriminant, features: Tensor, rows: Tensor) -> LeftOut:
        """Those to leave out of images [n, F] of the classes `rows` [n], see `judged_rows`.

        discriminant: solved from the moments of these and all others.
        """
        judged = judged_rows(discriminant, rows)
        features, rows = features[judged], rows[judged]
        return cls(features, rows, left_out_distances(discriminant, features, rows))

    def __len__(self) -> int:
        """m, 0 where no image can be judged."""
        return len(self.rows)


def judged_rows(discriminant: Discriminant, rows: Tensor) -> Tensor:
    """Which of n images, of the classes `rows` [n], to leave out: their numbers [m], `MOST` at most.

    None that is alone in its class, and none at all of a head where most classes are of one image, or that tells no
    class from another.
    """
    counts = discriminant.moments.counts
    judged = (counts[rows] > 1).nonzero().squeeze(1)
    if (counts > 1).double().mean() < LEAST_JUDGED or not separation(
        discriminant.moments.means, discriminant.weight
    ):
        return judged[:0]
    if len(judged) > MOST:  # drawn: every n-th would be of few classes where classes take turns
        judged = judged[torch.randperm(len(judged), generator=torch.Generator().manual_seed(0))[:MOST]]
    return judged


def left_out_logits(discriminant: Discriminant, left_out: LeftOut) -> Tensor:
    """Logits [m, C], up to a constant an image, of the discriminant solved without the image they are of.

    Lambda, the degrees of freedom and the shared covariance that classes exceed stay as they are with the image. Of the
    volumes and gains of the classes' own covariances, only those of the image's class are computed anew.
    """
    linear, covariances = left_out_linear(discriminant, left_out), discriminant.covariances
    if covariances is None:
        return linear
    sketches, whole = OwnSketches.of(discriminant, left_out.rows), []
    for logits, images, own in zip(
        linear.split(IMAGES_AT_ONCE),
        left_out.features.split(IMAGES_AT_ONCE),
        left_out.rows.unsqueeze(1).split(IMAGES_AT_ONCE),
        strict=True,
    ):
        volumes, gains = left_out_own(discriminant, sketches, images, own.squeeze(1))
        paid = logits - discriminant.volumes.expand_as(logits).scatter(1, own, volumes.unsqueeze(1))
        closest = paid.topk(min(CLOSEST, paid.shape[1]), dim=1).indices
        scored = paid.gather(1, own) + (closest == own).any(dim=1, keepdim=True) * gains.unsqueeze(1)
        whole.append(covariances.with_gains(images.float(), paid).scatter(1, own, scored))
    return torch.cat(whole)


def left_out_linear(discriminant: Discriminant, left_out: LeftOut) -> Tensor:
    """The linear part of `left_out_logits` [m, C]: minus half a squared distance to each mean, and the allowances."""
    return discriminant.allowance(discriminant.moments.counts) - 0.5 * left_out.distances


def left_out_distances(discriminant: Discriminant, features: Tensor, rows: Tensor) -> Tensor:
    """Squared Mahalanobis distances [n, C] of features [n, F] of the classes `rows` [n] to all class means, each image
    left out as in `left_out_logits`.

    With M = Sigma + Lambda, r = x - mu_y, n_y images of its class and f degrees of freedom, leaving x out takes
    t r r^T with t = n_y / (n_y - 1) / f from the covariance and makes r n_y / (n_y - 1) as long. So, by Sherman and
    Morrison, (M - t r r^T)^-1 = M^-1 + g (M^-1 r) (M^-1 r)^T with g = t / (1 - t r^T M^-1 r).

    Without the image, the mean of its class is known less well, and so is farther from it than from a new image when
    nothing is left out. That difference, e / (n_y - 1) - e / n_y, is subtracted again: otherwise heads of few images
    would look worse than they are. So a distance may be slightly negative.
    """
    moments, x = discriminant.moments, features.double()  # [n, F]
    means, images = moments.means, moments.counts[rows]  # [C, F], [n]
    logits = x @ discriminant.weight + discriminant.bias  # [n, C], with the image
    residual = x - means[rows]  # [n, F], r
    solved = torch.cholesky_solve(residual.mT, discriminant.cholesky).mT  # [n, F], M^-1 r
    own = (residual * solved).sum(dim=1, keepdim=True)  # [n, 1], r^T M^-1 r
    column = rows.unsqueeze(1)  # [n, 1]
    distances = own + 2 * (logits.gather(1, column) - logits)  # [n, C], squared, to each mean
    along = solved @ means.mT
    along = own + along.gather(1, column) - along  # [n, C], (x - mu)^T M^-1 r
    stretch = (images / (images - 1)).unsqueeze(1)  # [n, 1]
    taken = stretch / moments.freedom  # [n, 1], t
    gain = taken / (1 - taken * own)  # [n, 1], g
    distances = distances + gain * along.square()
    distances = distances.scatter(1, column, stretch.square() * (own + gain * own.square()))
    further = discriminant.error * (1 / (images - 1) - 1 / images)  # [n], by so much on average
    return distances.scatter_add(1, column, -further.unsqueeze(1))


def left_out_widths(discriminant: Discriminant, left_out: LeftOut, classes: Tensor) -> Tensor:
    """Widths [m] of one class for each image, `classes` [m], as they are without the image.

    Without it the length of its own class, r^T M^-1 r n_y / (n_y - 1), is missing there; M stays as it is with it.
    That length follows from the distance to its own mean, by `left_out_distances`, without another solve.
    """
    if discriminant.covariances is None:
        return discriminant.widths[classes]
    moments, own = discriminant.moments, left_out.rows == classes
    images = moments.counts[left_out.rows]
    stretch = images / (images - 1)
    distance = left_out.distances.gather(1, left_out.rows.unsqueeze(1)).squeeze(1)
    further = discriminant.error * (1 / (images - 1) - 1 / images)
    longer = (distance + further) / stretch.square()
    taken = stretch * longer / (1 + stretch / moments.freedom * longer)
    lengths = (discriminant.lengths[classes] - own * taken).clamp_min(0)
    spare = moments.counts[classes] - 1 - own.double()
    return widths(lengths, spare, discriminant.prior, discriminant.trace, moments.freedom)


@dataclass(frozen=True, slots=True)
class OwnSketches:
    """The sketches of the u classes that some images are of, made by `whitened_sketch` once for all of these.

    place: [C], where a class is among them, 0 for any other.  core: [u, S, S].  whitened: [u, S, F].
    """

    place: Tensor
    core: Tensor
    whitened: Tensor

    @classmethod
    def of(cls, discriminant: Discriminant, rows: Tensor) -> OwnSketches:
        """rows: [n], classes of the images."""
        classes = rows.unique()
        place = torch.zeros(len(discriminant.moments.labels), dtype=torch.int64)
        place[classes] = torch.arange(len(classes))
        return cls(
            place, *whitened_sketch(discriminant.moments.scatter[classes], discriminant.cholesky.float())
        )


def left_out_own(
    discriminant: Discriminant, sketches: OwnSketches, features: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """v_y and |D_y (x - mu_y)|^2 / 2, [B] each, of the own class `rows` [B] of images [B, F], solved without them.

    The sketch Y of that class loses n_y / (n_y - 1) r (r^T Omega), with r = x - mu_y, and Omega^T Y and L^-1 Y what
    follows from that.
    """
    moments = discriminant.moments
    images, place = moments.counts[rows], sketches.place[rows]
    stretch = (images / (images - 1)).float()  # [B]
    residual = (features.double() - moments.means[rows]).float()
    leaning = torch.linalg.solve_triangular(
        discriminant.cholesky.float(), residual.mT, upper=False
    ).mT  # L^-1 r
    probed = residual @ probes(*moments.scatter.shape[1:]).float()  # [B, S], r^T Omega
    taken = stretch.unsqueeze(1) * probed
    core = sketches.core[place] - taken.unsqueeze(2) * probed.unsqueeze(1)
    whitened = sketches.whitened[place] - taken.unsqueeze(2) * leaning.unsqueeze(1)
    kept, volumes = whitened_directions(low_rank(core, whitened), (images - 1).float())
    along = (kept @ (stretch.unsqueeze(1) * leaning).unsqueeze(2)).squeeze(2)  # [B, R]
    return volumes.double(), 0.5 * along.square().sum(dim=1).double()
