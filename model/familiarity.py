"""How much an image looks like images of known classes, as it is served; `model.usual` solves it.

Scores cannot tell: they say which of the known classes is likeliest, and sum to one for any picture. Two distances can,
computed from the same sums that the head is solved from:

    m(x) = ((x - mu_c)^T M^-1 (x - mu_c) - e / n_c) / s_c
    r(x) = m(x) - (x - mu)^T (M + B)^-1 (x - mu) / s_c

of the class c whose mean is nearest, with M the covariance within classes and its ridge, B that of the class means
about the mean mu of all images, e the squared distance of one image from its class' mean, and s_c the width of the
class (`model.widths`). The mean of n_c images is off by e / n_c, and x appears farther away by as much.

- m is the Mahalanobis distance to the nearest class mean: images of an entirely different kind are far away.
- r subtracts the distance to one Gaussian fitted to all classes: an image that no single class explains better than
  this Gaussian belongs to none, though it may be of the same kind. This is the relative Mahalanobis distance of Ren et
  al., A simple fix to Mahalanobis distance for improving near-OOD detection (2021).

Neither means anything by itself, so both are compared with those of images of known classes. The answer is a p-value:
about this share of those images looks at least as unusual. `benchmarks.familiarity` measures how accurate that is.

Nothing here is as wide as a covariance. A [F, R] holds directions of unit length by M along which class means differ,
b the variances of the means along them: so r is the squared distance to the nearest mean along A, less that to mu with
each of its squares divided by 1 + b. Of m, what lies across A is estimated by a few random directions (Johnson &
Lindenstrauss, Contemporary Mathematics 1984).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

PROBED = 64
"""K, random directions that measure what lies across the class means, with a relative standard error of a sixth."""


def unskewed(values: Tensor, skewness: Tensor) -> Tensor:
    """Values of mean 0, deviation 1 and some skewness as about normal ones, in the same order.

    As Wilson & Hilferty (PNAS 1931) take the cube root of chi-square, here of any Pearson type III variable (Kite,
    Frequency and Risk Analyses in Hydrology, 1977).
    """
    root = (1 + skewness * values / 2).clamp_min(torch.finfo(values.dtype).tiny) ** (1 / 3)
    return 6 / skewness * (root - 1) + skewness / 6


@dataclass(frozen=True, slots=True)
class Familiarity:
    """The measure as it is served: F channels, C classes, R directions along class means, K random ones.

    origin: [F], mu.  axes: [F, R], A.
    probes: [F, K], across these; the sum of the squares along them is expected to be the squared distance across.
    centres: [C, R], A^T (mu_c - mu).  allowances: [C], e / n_c.  widths: [C], s_c.
    unexplained: [R], 1 / (1 + b), the share of the variance along each axis that is within classes.
    usual: [2, 2], mean and deviation of log m, then those of r, of images of classes known.
    """

    origin: Tensor
    axes: Tensor
    probes: Tensor
    centres: Tensor
    allowances: Tensor
    widths: Tensor
    unexplained: Tensor
    usual: Tensor

    @classmethod
    def untold(cls, width: int, classes: int) -> Self:
        """One that gives NaN, to feed where a version cannot tell. width: F.  classes: C."""
        none, unknown = torch.zeros, torch.full((2, 2), math.nan)
        along, across = none(width, 1), none(width, PROBED)
        alike = torch.ones(classes)
        return cls(none(width), along, across, none(classes, 1), none(classes), alike, none(1), unknown)

    def of(self, features: Tensor) -> Tensor:
        """Features [B, F] -> [B], 0 (unlike any image of a class known) to 1; NaN where that is not known.

        2 (1 - Phi(z)), 1 at most, with z the larger of both measures in deviations above their means; of r, in those of
        the normal variable that is exceeded as often.
        """
        measures = torch.stack(self.measures(features))  # [2, B]
        near, relative = (measures - self.usual[:, :1]) / self.usual[:, 1:]
        strange = torch.maximum(near, unskewed(relative, self.skewness))
        # Bonferroni: twice the smaller of two normal tails.
        return 1 - torch.erf(strange.clamp_min(0) / 2**0.5)

    @property
    def skewness(self) -> Tensor:
        """Of r of images of known classes, a scalar: sqrt(8) / R^(3/4).

        Along one direction r is skewed like the square of a normal variable. Were it chi-square of R degrees, its
        skewness would be sqrt(8 / R); but the more classes, the oftener another is nearer where the own is far, which
        cuts the tail.
        """
        return 8**0.5 / torch.ones_like(self.unexplained).sum() ** 0.75

    def measures(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """log m and r, [B] each, of features [B, F]."""
        off = features - self.origin
        along, across = off @ self.axes, off @ self.probes  # [B, R], [B, K]
        lengths = self.centres.square().sum(dim=1) - self.allowances
        nearest = (lengths - 2 * along @ self.centres.mT).argmin(dim=1)
        # Taken anew from the difference: where classes lie far apart, float32 holds little of the above but that.
        own = (along - self.centres[nearest]).square().sum(dim=1) - self.allowances[nearest]
        near, width = across.square().sum(dim=1) + own, self.widths[nearest]
        relative = own - along.square() @ self.unexplained
        return (near / width).clamp_min(torch.finfo(near.dtype).tiny).log(), relative / width

    def fits(self, width: int, classes: int) -> bool:
        """Whether its parts are of so many classes, and of features [B, F = width]."""
        shapes = tuple(tuple(part.shape) for part in self.parts().values())
        along = self.unexplained.numel()
        axes, each = ((width,), (width, along), (width, PROBED)), ((classes, along), (classes,), (classes,))
        return shapes == (*axes, *each, (along,), (2, 2))

    def parts(self) -> dict[str, Tensor]:
        """Its tensors by name, not copied."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device | str) -> Familiarity:
        return Familiarity(*(part.to(device) for part in self.parts().values()))
