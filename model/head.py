"""The streaming analytic head: a regularised linear discriminant, solved from accumulated moments.

Each class is a Gaussian in the space that the head reads (`model.readout`), all with one covariance, so the best
classifier is linear: w_c = (Sigma + lambda I)^-1 mu_c, b_c = -w_c . mu_c / 2. Means and covariance come from sums over
images alone, so data may come in any order and any split, no image is kept, and a class counts the same whether it
brought ten images or a thousand.

RanPAC (McDonnell et al., NeurIPS 2023) accumulates the same Gram statistics and solves ridge regression onto one-hot
targets, which is the same matrix inverse without the centring: there, classes with many images pull answers their
way. Its random projection serves to tell apart linearly what the class token alone does not. Reading several depths
does so too, and better, at a fraction of the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.moments import ClassMoments


@dataclass(frozen=True, slots=True)
class Head:
    """A linear classifier. F channels read, C classes.

    weight: [F, C].  bias: [C].  sharpness: factor on the discriminant before a softmax.
    """

    weight: Tensor
    bias: Tensor
    sharpness: float = 1.0

    @classmethod
    def blank(cls, width: int) -> Head:
        """Knows no class yet. width: F."""
        return cls(torch.zeros(width, 0), torch.zeros(0))

    def logits(self, features: Tensor) -> Tensor:
        """features [B, F] -> [B, C], whose softmax are the answer's scores."""
        return self.sharpness * (features @ self.weight + self.bias)

    def to(self, device: torch.device | str) -> Head:
        return Head(self.weight.to(device), self.bias.to(device), self.sharpness)


@dataclass(frozen=True, slots=True)
class Discriminant:
    """What the moments of features give, solved.

    moments: of features of width F, C classes.  cholesky: [F, F] of Sigma + lambda I, its lower factor.
    weight: [F, C], (Sigma + lambda I)^-1 mu_c.  All in float64.
    """

    moments: ClassMoments
    cholesky: Tensor
    weight: Tensor

    @classmethod
    def of(cls, moments: ClassMoments, shrinkage: float) -> Discriminant:
        """lambda is `shrinkage` times the mean variance of a channel.

        One image a class has no variance; any positive lambda then makes this the nearest class mean.
        """
        covariance = moments.covariance.clone()
        covariance.diagonal().add_(shrinkage * covariance.diagonal().mean().clamp_min(1e-9))
        cholesky = torch.linalg.cholesky(covariance)
        return cls(moments, cholesky, torch.cholesky_solve(moments.means.mT, cholesky))

    @property
    def bias(self) -> Tensor:
        """[C], -w_c . mu_c / 2."""
        return -0.5 * (self.moments.means * self.weight.mT).sum(dim=1)

    def head(self, sharpness: float = 1.0) -> Head:
        """The same in float32, to be served, less what all classes have in common.

        That share moves no score, but where images are much alike it is a thousand times what tells classes apart,
        and its rounding then answers instead of them.
        """
        weight, bias = self.weight - self.weight.mean(dim=1, keepdim=True), self.bias - self.bias.mean()
        return Head(weight.float(), bias.float(), sharpness)
