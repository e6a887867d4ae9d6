"""Each image's logits as the head would give them that was solved from all other images.

That takes no second factorisation: leaving an image out changes one mean and, by one outer product, the covariance
(Sherman & Morrison, Annals of Mathematical Statistics 1950) and the sketch of its class' own (`model.covariances`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.covariances import CLOSEST, whitened_directions, whitened_sketch
from model.head import IMAGES_AT_ONCE, Discriminant, separation
from model.moments import probes

MOST = 1024
"""Images left out at most, one after another; more would cost time and tell little."""
LEAST_JUDGED = 0.5
"""Share of classes with an image to spare, of a head that is judged: those of fewer would speak for all the others."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Images that judge a discriminant, each as if that had been solved without it.  m images, C classes.

    features: [m, F], what is asked about.  taught: [m, F], what of these images is in the moments.
    rows: [m], their classes, each of two images or more.  distances: [m, C], see `left_out_distances`.
    """

    features: Tensor
    taught: Tensor
    rows: Tensor
    distances: Tensor

    @classmethod
    def of(
        cls, discriminant: Discriminant, features: Tensor, rows: Tensor, taught: Tensor | None = None
    ) -> LeftOut:
        """Those to leave out of images [n, F] of the classes `rows` [n], see `judged_rows`.

        discriminant: solved from the moments of these and all others.  taught: [n, F], what of each image is in them;
        the features themselves if None.
        """
        judged = judged_rows(discriminant, rows)
        features, taught = (part[judged] for part in (features, features if taught is None else taught))
        rows = rows[judged]
        return cls(features, taught, rows, left_out_distances(discriminant, features, taught, rows))

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
    for logits, images, taught, own in zip(
        linear.split(IMAGES_AT_ONCE),
        left_out.features.split(IMAGES_AT_ONCE),
        left_out.taught.split(IMAGES_AT_ONCE),
        left_out.rows.unsqueeze(1).split(IMAGES_AT_ONCE),
        strict=True,
    ):
        volumes, gains = left_out_own(discriminant, sketches, images, taught, own.squeeze(1))
        paid = logits - discriminant.volumes.expand_as(logits).scatter(1, own, volumes.unsqueeze(1))
        closest = paid.topk(min(CLOSEST, paid.shape[1]), dim=1).indices
        scored = paid.gather(1, own) + (closest == own).any(dim=1, keepdim=True) * gains.unsqueeze(1)
        whole.append(covariances.with_gains(images.float(), paid).scatter(1, own, scored))
    return torch.cat(whole)


def left_out_linear(discriminant: Discriminant, left_out: LeftOut) -> Tensor:
    """The linear part of `left_out_logits` [m, C]: minus half a squared distance to each mean, and the allowances."""
    return discriminant.allowance(discriminant.moments.counts) - 0.5 * left_out.distances


def left_out_distances(discriminant: Discriminant, features: Tensor, taught: Tensor, rows: Tensor) -> Tensor:
    """Squared Mahalanobis distances [n, C] of features [n, F] of the classes `rows` [n] to all class means, each image
    left out as in `left_out_logits`: of an image it is `taught` [n, F] that is in the moments.

    With M = Sigma + Lambda, x the features, z what was taught, r = z - mu_y, n_y images of its class and f degrees of
    freedom, leaving z out takes t r r^T with t = n_y / (n_y - 1) / f from the covariance and r / (n_y - 1) from the
    mean. So, by Sherman and Morrison, (M - t r r^T)^-1 = M^-1 + g (M^-1 r) (M^-1 r)^T with g = t / (1 - t r^T M^-1 r).

    Without the image, the mean of its class is known less well, and so is farther from it than from a new image when
    nothing is left out. That difference, e / (n_y - 1) - e / n_y, is subtracted again: otherwise heads of few images
    would look worse than they are. So a distance may be slightly negative.
    """
    moments, x = discriminant.moments, features.double()  # [n, F]
    means, images = moments.means, moments.counts[rows]  # [C, F], [n]
    logits = x @ discriminant.weight + discriminant.bias  # [n, C], with the image
    off, residual = x - means[rows], taught.double() - means[rows]  # [n, F], x - mu_y and r
    far, solved = torch.cholesky_solve(torch.cat([off, residual]).mT, discriminant.cholesky).mT.chunk(2)
    far, across, own = (
        (left * right).sum(dim=1, keepdim=True)
        for left, right in ((off, far), (off, solved), (residual, solved))
    )  # [n, 1], products under M^-1: of x - mu_y with itself and with r, and of r with itself
    column, spare = rows.unsqueeze(1), (images - 1).unsqueeze(1)  # [n, 1]
    distances = far + 2 * (logits.gather(1, column) - logits)  # [n, C], squared, to each mean
    along = solved @ means.mT
    along = across + along.gather(1, column) - along  # [n, C], (x - mu)^T M^-1 r
    taken = images.unsqueeze(1) / spare / moments.freedom  # [n, 1], t
    gain = taken / (1 - taken * own)  # [n, 1], g
    distances = distances + gain * along.square()
    # To the mean that its own class is left with, mu_y - r / (n_y - 1).
    to_own = far + 2 * across / spare + own / spare.square()
    distances = distances.scatter(1, column, to_own + gain * (across + own / spare).square())
    further = discriminant.error * (1 / (images - 1) - 1 / images)  # [n], by so much on average
    return distances.scatter_add(1, column, -further.unsqueeze(1))


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
    discriminant: Discriminant, sketches: OwnSketches, features: Tensor, taught: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """v_y and |D_y (x - mu_y)|^2 / 2, [B] each, of the own class `rows` [B] of images x [B, F], solved without what
    they taught, z [B, F].

    The sketch Y of that class loses n_y / (n_y - 1) r (r^T Omega), with r = z - mu_y, and Omega^T Y and L^-1 Y what
    follows from that; its mean loses r / (n_y - 1).
    """
    moments = discriminant.moments
    images, place = moments.counts[rows], sketches.place[rows]
    stretch = (images / (images - 1)).float()  # [B]
    off, residual = ((part.double() - moments.means[rows]).float() for part in (features, taught))
    apart = off + residual / (images - 1).float().unsqueeze(1)  # x less the mean without z
    leaning, apart = torch.linalg.solve_triangular(
        discriminant.cholesky.float(), torch.cat([residual, apart]).mT, upper=False
    ).mT.chunk(2)  # L^-1 r, and L^-1 of that
    probed = residual @ probes(*moments.scatter.shape[1:]).float()  # [B, S], r^T Omega
    taken = stretch.unsqueeze(1) * probed
    core = sketches.core[place] - taken.unsqueeze(2) * probed.unsqueeze(1)
    whitened = sketches.whitened[place] - taken.unsqueeze(2) * leaning.unsqueeze(1)
    kept, volumes = whitened_directions(core, whitened, (images - 1).float())
    along = (kept @ apart.unsqueeze(2)).squeeze(2)  # [B, R]
    return volumes.double(), 0.5 * along.square().sum(dim=1).double()
