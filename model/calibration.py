"""How sure the head may be of its answers: its scores judged on images as if it had never seen them.

A head is right about the images it was solved from more often than about others, and surer; scores scaled to please
those images promise too much to everybody else. Each image is therefore judged by the head that all others would
have given. For a discriminant that takes no second factorisation: leaving an image out changes one mean and, by one
outer product, the covariance (Sherman & Morrison, Annals of Mathematical Statistics 1950). One factor on all logits is
then fitted to those answers, as in Guo et al., On calibration of modern neural networks (ICML 2017).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model.moments import ClassMoments

MOST = 1024
"""Images that a factor is fitted to at most; more would cost time and move it little."""
SHARPNESSES = tuple(2.0 ** (power / 2) for power in range(-24, 25))
"""What a factor is chosen from."""
ASSUMED = 0.9
"""Score of a taught image against one other class where nothing tells how sure to be."""


def fit_sharpness(moments: ClassMoments, cholesky: Tensor, features: Tensor, rows: Tensor) -> float | None:
    """The factor that gives the classes `rows` [n] of features [n, F] the least cross-entropy, each image left out.

    moments: of these features and all others.  cholesky: what `model.head.factorise` makes of them.  An image that is
    the only one of its class cannot be left out: where all of them are, the factor is None if another class has more,
    and `assumed_sharpness` if none has.
    """
    judged = (moments.counts[rows] > 1).nonzero().squeeze(1)
    if not len(judged):
        return None if (moments.counts > 1).any() else assumed_sharpness(moments, cholesky)
    if len(judged) > MOST:  # drawn: every n-th would be of few classes where classes take turns
        judged = judged[torch.randperm(len(judged), generator=torch.Generator().manual_seed(0))[:MOST]]
    logits, targets = left_out_logits(moments, cholesky, features[judged], rows[judged]), rows[judged]
    return min(SHARPNESSES, key=lambda factor: F.cross_entropy(factor * logits, targets).item())


def assumed_sharpness(moments: ClassMoments, cholesky: Tensor) -> float:
    """The factor by which a class mean scores `ASSUMED` beside another class as far away as they are on average.

    1 for a class alone, which nothing is told from.
    """
    means = moments.means  # [C, F]
    if len(means) == 1:
        return 1.0
    likeness = means @ torch.cholesky_solve(means.mT, cholesky)  # [C, C]
    own = likeness.diagonal()
    gaps = 0.5 * (own.unsqueeze(1) + own) - likeness  # [C, C], half the squared distances
    average = gaps.sum() / (len(means) * (len(means) - 1))
    return math.log(ASSUMED / (1 - ASSUMED)) / max(average.item(), 1e-12)


def left_out_logits(moments: ClassMoments, cholesky: Tensor, features: Tensor, rows: Tensor) -> Tensor:
    """Logits [n, C], up to a constant an image, of the discriminant solved without the image they are of.

    features: [n, F], all of them in the moments.  cholesky: as for `fit_sharpness`.  rows: [n], their classes, each of
    two images or more.  lambda and the degrees of freedom stay as they are with the image.

    Half the squared Mahalanobis distance to a mean, negated. With r = x - mu_y, n_y images of its class and f degrees
    of freedom, leaving x out takes n_y / (n_y - 1) r r^T / f from the covariance and makes r n_y / (n_y - 1) as long.
    """
    x, means, images = features.double(), moments.means, moments.counts[rows]  # [n, F], [C, F], [n]
    weight = torch.cholesky_solve(means.mT, cholesky)  # [F, C]
    logits = x @ weight - 0.5 * (means * weight.mT).sum(dim=1)  # [n, C], with the image
    residual = x - means[rows]  # [n, F], r
    solved = torch.cholesky_solve(residual.mT, cholesky).mT  # [n, F], Sigma^-1 r
    own = (residual * solved).sum(dim=1, keepdim=True)  # [n, 1], r^T Sigma^-1 r
    column = rows.unsqueeze(1)  # [n, 1]
    distances = own + 2 * (logits.gather(1, column) - logits)  # [n, C], squared, to each mean
    along = solved @ means.mT
    along = own + along.gather(1, column) - along  # [n, C], (x - mu)^T Sigma^-1 r
    stretch = (images / (images - 1)).unsqueeze(1)  # [n, 1]
    taken = stretch / moments.freedom  # [n, 1], the share of r r^T that goes
    gain = taken / (1 - taken * own)  # [n, 1], what the inverse grows by along r
    distances = distances + gain * along.square()
    return -0.5 * distances.scatter(1, column, stretch.square() * (own + gain * own.square()))
