"""How much an image looks like those of the classes known, as it is served; see `model.usual` for where it comes from.

Scores cannot tell: they say which of the classes known it is, and sum to one for a picture of anything. Two distances
can, each from the same sums that the head is solved from:

- to the nearest class mean, squared, as Mahalanobis measures it: images of another kind altogether lie far off;
- the same less the distance to all classes taken as one Gaussian: an image that no class explains better than all of
  them together is of none, though it may be of the same kind. This is the relative Mahalanobis distance of Ren et al.,
  A simple fix to Mahalanobis distance for improving near-OOD detection (2021).

Neither means anything by itself, so both are compared with those of images that are of a class known. What an answer
tells is a p-value, and a careful one: at most so large a share of those images looks so strange. Whoever takes images
below 0.01 for unknown is wrong about one in a hundred that are not.

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
"""Random directions that measure what lies across the class means, to within a sixth of it."""


@dataclass(frozen=True, slots=True)
class Familiarity:
    """The measure as it is served: F channels, C classes, R directions along class means, K random ones.

    origin: [F], taken from features first.  axes: [F, R], along class means.  probes: [F, K], across them.
    centres: [C, R], class means along the axes.  explained: [R], the share of an axis' variance between classes.
    usual: [2, 2], mean and deviation of the logarithm of the first distance, then those of the second.
    """

    origin: Tensor
    axes: Tensor
    probes: Tensor
    centres: Tensor
    explained: Tensor
    usual: Tensor

    @classmethod
    def untold(cls, width: int, classes: int) -> Self:
        """One that gives NaN, to feed where a version cannot tell. width: F.  classes: C."""
        none = torch.zeros
        unknown = torch.full((2, 2), math.nan)
        return cls(none(width), none(width, 1), none(width, PROBED), none(classes, 1), none(1), unknown)

    def of(self, features: Tensor) -> Tensor:
        """Features [B, F] -> [B], 0 (unlike any image of a class known) to 1; NaN where that is not known."""
        off = features - self.origin
        along, across = off @ self.axes, off @ self.probes  # [B, R], [B, K]
        # By how much the nearest class is nearer than the origin; at most 0 for an image of a class known.
        nearer = (self.centres.square().sum(dim=1) - 2 * along @ self.centres.mT).amin(dim=1)
        near = across.square().sum(dim=1) + along.square().sum(dim=1) + nearer
        relative = nearer + along.square() @ self.explained
        measures = torch.stack([near.clamp_min(torch.finfo(near.dtype).tiny).log(), relative])  # [2, B]
        strange = ((measures - self.usual[:, :1]) / self.usual[:, 1:]).amax(dim=0)
        # Bonferroni: twice the smaller of two normal tails, at most 1.
        return 1 - torch.erf(strange.clamp_min(0) / 2**0.5)

    def fits(self, width: int, classes: int) -> bool:
        """Whether its parts are of so many classes, and of features [B, F = width]."""
        shapes = tuple(tuple(part.shape) for part in self.parts().values())
        along, across = self.explained.numel(), self.probes.shape[-1]
        return shapes == ((width,), (width, along), (width, across), (classes, along), (along,), (2, 2))

    def parts(self) -> dict[str, Tensor]:
        """Its tensors by name, not copied."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device | str) -> Familiarity:
        return Familiarity(*(part.to(device) for part in self.parts().values()))
