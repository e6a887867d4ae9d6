"""How sure the head may be of its answers: its scores judged on images as if it had never seen them.

A head is right about the images it was solved from more often than about others, and surer; scores scaled to please
those images promise too much to everybody else. Each image is therefore judged by the head that all others would
have given (`model.left_out`). One factor on all logits is then fitted to those answers: the temperature scaling of Guo
et al., On calibration of modern neural networks (ICML 2017). Their temperature is one over it; here that word is the
loop's.

Only a task's own images are there to judge, and those of two strange classes know nothing of the other hundred. Factors
are therefore pooled over tasks. An image counts as much as the head had images to be solved from when it was judged:
heads of few images are less sure, and what was fitted to them should fade as more come.

Logits shrink as images come and the head trusts its covariance more, so a factor that was right once is not later.
What is pooled is its ratio to `assumed_sharpness` of the head that it was fitted to, which hardly changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from model.head import Discriminant, separation
from model.left_out import judged_rows, left_out_logits

REACH, HALVINGS = 12.0, 12
"""A ratio lies within 2^-REACH..2^REACH, and is found to 2^(REACH / 2^HALVINGS), a fifth of a per cent."""
PULL = 4.0
"""How strongly a ratio is held near 1: one over the variance of its logarithm. Data sets differ by a factor of two."""
ASSUMED = 0.999
"""Score of a class' mean against one other class where nothing tells how sure to be."""


@dataclass(frozen=True, slots=True)
class Sharpness:
    """How sure a head may be, and what that rests on.

    ratio: of the factor on its logits to its `assumed_sharpness`.
    weight: how many images were judged, times the images that their head was solved from; 0 where none could be.
    """

    ratio: float = 1.0
    weight: float = 0.0

    def pooled(self, newer: Sharpness) -> Sharpness:
        """The geometric mean of both by their weights."""
        weight = self.weight + newer.weight
        share = newer.weight / weight if weight else 0.0
        return Sharpness(self.ratio ** (1 - share) * newer.ratio**share, weight)


def fit_sharpness(found: Discriminant, features: Tensor, rows: Tensor) -> Sharpness:
    """What gives the classes `rows` [n] of features [n, F] the least cross-entropy, each image left out.

    found: solved from the moments of these features and all others.  Where `judged_rows` finds none to judge, what is
    returned has no weight.
    """
    judged = judged_rows(found, rows)
    if not len(judged):
        return Sharpness()
    assumed = assumed_sharpness(found.moments.means, found.weight)
    logits = assumed * left_out_logits(found, features[judged], rows[judged])
    return Sharpness(fitted_ratio(logits, rows[judged]), len(judged) * found.moments.counts.sum().item())


def fitted_ratio(logits: Tensor, targets: Tensor) -> float:
    """The factor r on logits [n, C] that is likeliest given targets [n]: least n cross-entropy + `PULL` / 2 log^2 r.

    A few images that are all right, or all wrong, would ask for an extreme; the second term, a log-normal prior, does
    not let them.
    """
    own = logits.gather(1, targets.unsqueeze(1)).squeeze(1)  # [n]
    low, high = -REACH, REACH  # powers of two
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = ((2**middle * logits).softmax(dim=1) * logits).sum(dim=1)  # [n]
        # What n cross-entropy falls by, in nats, for a factor e times as large.
        gain = 2**middle * (own - expected).sum().item()
        low, high = (middle, high) if gain > PULL * middle * math.log(2) else (low, middle)
    return 2 ** ((low + high) / 2)


def assumed_sharpness(means: Tensor, weight: Tensor) -> float:
    """The factor by which a class mean scores `ASSUMED` beside another class as far away as they are on average.

    means: [C, F].  weight: [F, C] of their head.  1 where nothing is told from anything.
    """
    apart = separation(means, weight)
    return math.log(ASSUMED / (1 - ASSUMED)) / apart if apart else 1.0
