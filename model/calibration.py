"""How sure the head may be of its answers: its scores judged on images as if it had never seen them.

A head is right about the images it was solved from more often than about others, and surer; scores scaled to please
those images promise too much to everybody else. Each image is therefore judged by the head that all others would
have given. For a discriminant that takes no second factorisation: leaving an image out changes one mean and, by one
outer product, the covariance (Sherman & Morrison, Annals of Mathematical Statistics 1950). One factor on all logits is
then fitted to those answers, as in Guo et al., On calibration of modern neural networks (ICML 2017).

Judged is the linear part alone: covariances of classes' own (`model.covariances`) are not solved again for each image.

Only a task's own images are there to judge, and those of two strange classes know nothing of the other hundred. Factors
are therefore pooled over tasks. An image counts as much as the head had images to be solved from when it was judged:
heads of few images are less sure, and what was fitted to them should fade as more come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.head import Discriminant

MOST = 1024
"""Images that a factor is fitted to at most; more would cost time and move it little."""
REACH, HALVINGS = 12.0, 12
"""A factor lies within 2^-REACH..2^REACH, and is found to 2^(REACH / 2^HALVINGS), a fifth of a per cent."""
LEAST_GAIN = 1e-6
"""Fall of the cross-entropy, in nats for a factor e times as large, that still makes scores sharper."""
ALIKE = 1e-9
"""Share of their own likeness by which means must lie apart for that to be more than rounding."""
ASSUMED = 0.9
"""Score of a taught image against one other class where nothing tells how sure to be."""


@dataclass(frozen=True, slots=True)
class Sharpness:
    """A factor on logits, and what it rests on.

    weight: images judged, each times the images that its head was solved from; 0 where none could be.
    """

    factor: float = 1.0
    weight: float = 0.0

    def pooled(self, newer: Sharpness) -> Sharpness:
        """The geometric mean of both by their weights; the newer one while neither rests on anything."""
        weight = self.weight + newer.weight
        share = newer.weight / weight if weight else 1.0
        return Sharpness(self.factor ** (1 - share) * newer.factor**share, weight)


def fit_sharpness(found: Discriminant, features: Tensor, rows: Tensor) -> Sharpness:
    """What gives the classes `rows` [n] of features [n, F] the least cross-entropy, each image left out.

    found: from the moments of these features and all others.  An image that is the only one of its class cannot be
    left out: where all of them are, the factor is `assumed_sharpness`, and rests on nothing.
    """
    counts = found.moments.counts
    judged = (counts[rows] > 1).nonzero().squeeze(1)
    if not len(judged):
        return Sharpness(assumed_sharpness(found))
    if len(judged) > MOST:  # drawn: every n-th would be of few classes where classes take turns
        judged = judged[torch.randperm(len(judged), generator=torch.Generator().manual_seed(0))[:MOST]]
    logits = left_out_logits(found, features[judged], rows[judged])
    return Sharpness(fitted_factor(logits, rows[judged]), len(judged) * counts.sum().item())


def fitted_factor(logits: Tensor, targets: Tensor) -> float:
    """The factor on logits [n, C] that gives targets [n] the least cross-entropy, which is convex in it."""
    own = logits.gather(1, targets.unsqueeze(1)).squeeze(1)  # [n]
    low, high = -REACH, REACH  # powers of two
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = ((2**middle * logits).softmax(dim=1) * logits).sum(dim=1)  # [n]
        gain = 2**middle * (own - expected).mean().item()
        low, high = (middle, high) if gain > LEAST_GAIN else (low, middle)
    return 2 ** ((low + high) / 2)


def assumed_sharpness(found: Discriminant) -> float:
    """The factor by which a class mean scores `ASSUMED` beside another class as far away as they are on average.

    1 where nothing is told from anything: for a class alone, and for classes of the same images.
    """
    means = found.moments.means  # [C, F]
    if len(means) == 1:
        return 1.0
    likeness = means @ found.weight  # [C, C]
    own = likeness.diagonal()
    gaps = 0.5 * (own.unsqueeze(1) + own) - likeness  # [C, C], half the squared distances
    average = (gaps.sum() / (len(means) * (len(means) - 1))).item()
    if average <= ALIKE * own.mean().item():
        return 1.0
    return math.log(ASSUMED / (1 - ASSUMED)) / average


def left_out_logits(found: Discriminant, features: Tensor, rows: Tensor) -> Tensor:
    """Logits [n, C], up to a constant an image, of the discriminant solved without the image they are of.

    features: [n, F], all of them in the moments.  rows: [n], their classes, each of two images or more.  lambda and the
    degrees of freedom stay as they are with the image.

    Half the squared Mahalanobis distance to a mean, negated, and what is allowed for its error. With r = x - mu_y,
    n_y images of its class and f degrees of freedom, leaving x out takes n_y / (n_y - 1) r r^T / f from the covariance
    and makes r n_y / (n_y - 1) as long.
    """
    moments, x = found.moments, features.double()  # [n, F]
    means, images = moments.means, moments.counts[rows]  # [C, F], [n]
    logits = x @ found.weight + found.bias  # [n, C], with the image
    residual = x - means[rows]  # [n, F], r
    solved = torch.cholesky_solve(residual.mT, found.cholesky).mT  # [n, F], Sigma^-1 r
    own = (residual * solved).sum(dim=1, keepdim=True)  # [n, 1], r^T Sigma^-1 r
    column = rows.unsqueeze(1)  # [n, 1]
    distances = own + 2 * (logits.gather(1, column) - logits)  # [n, C], squared, to each mean
    along = solved @ means.mT
    along = own + along.gather(1, column) - along  # [n, C], (x - mu)^T Sigma^-1 r
    stretch = (images / (images - 1)).unsqueeze(1)  # [n, 1]
    taken = stretch / moments.freedom  # [n, 1], the share of r r^T that goes
    gain = taken / (1 - taken * own)  # [n, 1], what the inverse grows by along r
    distances = distances + gain * along.square()
    distances = distances.scatter(1, column, stretch.square() * (own + gain * own.square()))
    allowed = found.allowance(moments.counts).expand_as(distances)
    return allowed.scatter(1, column, found.allowance(images - 1).unsqueeze(1)) - 0.5 * distances
