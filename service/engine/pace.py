"""How long a forward pass takes on this machine now, learned from the passes themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.budget import Budget
from model.merging import LEAST_KEEP

KEEPS = (1.0, 0.9, 0.8, 0.7, 0.6, LEAST_KEEP)
"""Shares of tokens that a time budget chooses among, deepest first."""
FADE = 0.95
"""Factor on the weight of all passes so far with each one that follows: about the last twenty matter."""
MARGIN = 1.1
"""Predictions are multiplied by this, since half of all passes take longer than predicted."""
LEAST = 0.1
"""A pass is never predicted to take less than this share of what its images take on average. Where passes grow faster
than their images, the line falls to zero for small ones, and zero can neither be divided by nor planned with."""
SAVED = 0.45
"""Share of the time of a pass that merging away all tokens would save, before anything was observed."""


class Pace:
    """seconds(images, keep) = relative(keep) * (a + b * images), all three of them learned. For one thread.

    `a` and `b` are a least-squares line through the passes so far, older ones fading. Each share of tokens has a
    factor of its own on it.
    """

    def __init__(self) -> None:
        self._sums = np.zeros(5)  # of 1, images, images^2, seconds, images * seconds
        self._relative = {keep: self._guess(keep) for keep in KEEPS}

    def observe(self, keep: float, images: int, seconds: float) -> None:
        """A pass over so many images took so long."""
        if keep != 1 and keep in self._relative and self._sums[0]:
            ratio = seconds / self._line(images)
            self._relative[keep] += (1 - FADE) * (ratio - self._relative[keep])
        whole = seconds / self._factor(keep)
        self._sums = FADE * self._sums + (1, images, images**2, whole, images * whole)

    def expect(self, keep: float, images: int) -> float:
        """Seconds of a pass; 0 before anything was observed."""
        return self._factor(keep) * self._line(images)

    def deepest(self, budget: Budget, images: int, left_s: float) -> Budget:
        """The budget with the largest `keep`, no larger than its own, that is expected to end within `left_s`.

        The smallest one where none is.
        """
        allowed = [budget.keep, *(keep for keep in KEEPS if keep < budget.keep)]
        fitting = (keep for keep in allowed if MARGIN * self.expect(keep, images) <= left_s)
        return replace(budget, keep=next(fitting, allowed[-1]))

    def _factor(self, keep: float) -> float:
        """What was learned of a share; one beside `KEEPS` lies between its neighbours."""
        if keep in self._relative:
            return self._relative[keep]
        return float(np.interp(keep, KEEPS[::-1], [self._relative[tried] for tried in KEEPS[::-1]]))

    def _guess(self, keep: float) -> float:
        return 1 - SAVED * (1 - keep)

    def _line(self, images: int) -> float:
        """Seconds of a whole pass by the least-squares line; in proportion to images while all passes had as many."""
        weight, n, nn, t, nt = self._sums
        if not weight:
            return 0.0
        mean_n, mean_t = n / weight, t / weight
        alike = float(mean_t * images / mean_n)
        spread = nn / weight - mean_n**2
        if spread < 1e-6:
            return alike
        slope = max(0.0, (nt / weight - mean_n * mean_t) / spread)
        return max(float(mean_t + slope * (images - mean_n)), LEAST * alike)
