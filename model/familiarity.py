"""How much an image looks like those of the classes known, as it is served; see `model.usual` for where it comes from.

Scores cannot tell: they say which of the classes known it is, and sum to one for a picture of anything. Two distances
can, each from the same sums that the head is solved from:

- to the nearest class mean, squared, as Mahalanobis measures it: images of another kind altogether lie far off;
- the same less the distance to all classes taken as one Gaussian: an image that no class explains better than all of
  them together is of none, though it may be of the same kind. This is the relative Mahalanobis distance of Ren et al.,
  A simple fix to Mahalanobis distance for improving near-OOD detection (2021).

The mean of a class of few images lies off that class, and an image seems further away by so much; that is taken off.

Neither means anything by itself, so both are compared with those of images that are of a class known. What an answer
tells is a p-value: about so large a share of those images looks so strange. `benchmarks.familiarity` says how nearly.

Nothing here is as wide as a covariance. That both Gaussians spread alike but for the class means leaves of the second
distance only what lies along those means; of the first, the rest is estimated by a few random directions (Johnson &
Lindenstrauss, Contemporary Mathematics 1984).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

PROBED = 64
"""Random directions that measure what lies across the class means, with a standard error of a sixth."""


@dataclass(frozen=True, slots=True)
class Familiarity:
    """The measure as it is served: F channels, C classes, R directions along class means, K random ones.

    origin: [F], taken from features first.  axes: [F, R], along class means.  probes: [F, K], across them.
    centres: [C, R], class means along the axes.  allowances: [C], squared, what each is off by on average.
    unexplained: [R], the share of the variance along each axis that is within classes.
    usual: [2, 2], mean and deviation of the logarithm of the first distance, then those of the second.
    """

    origin: Tensor
    axes: Tensor
    probes: Tensor
    centres: Tensor
    allowances: Tensor
    unexplained: Tensor
    usual: Tensor

    @classmethod
    def untold(cls, width: int, classes: int) -> Self:
        """One that gives NaN, to feed where a version cannot tell. width: F.  classes: C."""
        none, unknown = torch.zeros, torch.full((2, 2), math.nan)
        along, across = none(width, 1), none(width, PROBED)
        return cls(none(width), along, across, none(classes, 1), none(classes), none(1), unknown)

    def of(self, features: Tensor) -> Tensor:
        """Features [B, F] -> [B], 0 (unlike any image of a class known) to 1; NaN where that is not known."""
        measures = torch.stack(self.measures(features))  # [2, B]
        strange = ((measures - self.usual[:, :1]) / self.usual[:, 1:]).amax(dim=0)
        # Bonferroni: twice the smaller of two normal tails, at most 1.
        return 1 - torch.erf(strange.clamp_min(0) / 2**0.5)

    def measures(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Of features [B, F] the logarithm of the first distance [B], and the second [B]."""
        off = features - self.origin
        along, across = off @ self.axes, off @ self.probes  # [B, R], [B, K]
        lengths = self.centres.square().sum(dim=1) - self.allowances
        nearest = (lengths - 2 * along @ self.centres.mT).argmin(dim=1)
        # Taken anew from the difference: where classes lie far apart, float32 holds little of the above but that.
        own = (along - self.centres[nearest]).square().sum(dim=1) - self.allowances[nearest]
        near = across.square().sum(dim=1) + own
        return near.clamp_min(torch.finfo(near.dtype).tiny).log(), own - along.square() @ self.unexplained

    def fits(self, width: int, classes: int) -> bool:
        """Whether its parts are of so many classes, and of features [B, F = width]."""
        shapes = tuple(tuple(part.shape) for part in self.parts().values())
        along, across = self.unexplained.numel(), self.probes.shape[-1]
        wanted = (width,), (width, along), (width, across), (classes, along), (classes,), (along,), (2, 2)
        return shapes == wanted

    def parts(self) -> dict[str, Tensor]:
        """Its tensors by name, not copied."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device | str) -> Familiarity:
        return Familiarity(*(part.to(device) for part in self.parts().values()))
