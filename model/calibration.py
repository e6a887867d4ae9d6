"""How confident the head may be: its scores, calibrated on images as if it had never seen them.

A head is right more often about the images it was solved from than about others, and more confident; scores scaled to
suit those images would promise too much for all others. Each image is therefore judged by the head that all other
images would have given (`model.left_out`). One factor on all logits is then fitted to those answers: the temperature
scaling of Guo et al., On calibration of modern neural networks (ICML 2017). Their temperature is one over this factor;
here that word belongs to the loop.

Classes count alike there, as they do in the head: a class of two hundred images is answered far better than one of two,
and would otherwise promise its own certainty for all.

Only the current task's images are there to be judged, and a task of two unusual classes says nothing about the other
hundred. Factors are therefore pooled over tasks. An image's weight is the number of images that the head was solved
from when it was judged: heads of few images are less confident, and what was fitted to them should fade as more come.

Logits shrink as images come and the head trusts its covariance more, so a factor that was right once is not right
later. What is pooled is its ratio to the `assumed_sharpness` of the head it was fitted to, which changes far less.
One factor serves all classes: beside a kind that is told apart far more easily, scores of a hard one come out too low.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from model.head import Discriminant, separation
from model.left_out import LeftOut, left_out_logits

REACH, HALVINGS = 12.0, 12
"""A ratio lies within 2^-REACH..2^REACH, and is found to 2^(REACH / 2^HALVINGS), a fifth of a per cent."""
PULL = 4.0
"""How strongly a ratio is held near 1: one over the variance of its logarithm. Data sets differ by a factor of two."""
ASSUMED = 0.999
"""Score of a class' mean against the nearest other class where nothing tells how sure to be."""


@dataclass(frozen=True, slots=True)
class Sharpness:
    """How confident a head may be, and what that rests on.

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


def fit_sharpness(discriminant: Discriminant, left_out: LeftOut) -> Sharpness:
    """The sharpness of least cross-entropy for some images, each left out. Without any, the weight is 0."""
    if not len(left_out):
        return Sharpness()
    assumed = assumed_sharpness(discriminant.moments.means, discriminant.weight)
    ratio = fitted_ratio(assumed * left_out_logits(discriminant, left_out), left_out.rows)
    return Sharpness(ratio, len(left_out) * discriminant.moments.counts.sum().item())


def fitted_ratio(logits: Tensor, targets: Tensor) -> float:
    """The likeliest factor r on logits [n, C] given targets [n]: it minimises n cross-entropy + `PULL` / 2 log^2 r.

    The cross-entropy is the mean over classes of each one's mean. The second term is a log-normal prior: without it, a
    few images that are all right, or all wrong, would ask for an extreme factor.
    """
    own = logits.gather(1, targets.unsqueeze(1)).squeeze(1)  # [n]
    images = targets.bincount()  # of each class
    weights = len(targets) / (images.count_nonzero() * images[targets])  # [n], n in all
    low, high = -REACH, REACH  # powers of two
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = ((2**middle * logits).softmax(dim=1) * logits).sum(dim=1)  # [n]
        # What n cross-entropy falls by, in nats, for a factor e times as large.
        gain = 2**middle * (weights * (own - expected)).sum().item()
        low, high = (middle, high) if gain > PULL * middle * math.log(2) else (low, middle)
    return 2 ** ((low + high) / 2)


def assumed_sharpness(means: Tensor, weight: Tensor) -> float:
    """The factor with which a class mean scores `ASSUMED` against the nearest other class, at the average `separation`.

    means: [C, F].  weight: [F, C] of their head.  1 if no class is separated from another.
    """
    apart = separation(means, weight)
    return math.log(ASSUMED / (1 - ASSUMED)) / apart if apart else 1.0
