"""How sure the head may be of its answers: its scores judged on images as if it had never seen them.

A head is right about the images it was solved from more often than about others, and surer; scores scaled to please
those images promise too much to everybody else. Each image is therefore judged by the head that all others would
have given (`model.left_out`). One factor on all logits is then fitted to those answers: the temperature scaling of Guo
et al., On calibration of modern neural networks (ICML 2017). Their temperature is one over it; here that word is the
loop's.

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
from model.left_out import left_out_logits

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
