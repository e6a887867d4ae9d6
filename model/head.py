"""The streaming analytic head: random projection, then a regularised discriminant from accumulated moments.

Features of length one pass a fixed random layer h = relu(f R). Each class is a Gaussian there, all with one
covariance, so the best classifier is linear: w_c = (Sigma + lambda I)^-1 mu_c, b_c = -w_c . mu_c / 2. Means and
covariance come from sums over images alone, so data may come in any order and any split, no image is kept, and a
class counts the same whether it brought ten images or a thousand.

Random projection with Gram statistics is RanPAC's (McDonnell et al., NeurIPS 2023). Its ridge regression onto one-hot
targets is the same matrix inverse without the centring; there, classes with many images
pull answers their way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.moments import ClassMoments


@dataclass(frozen=True, slots=True)
class Head:
    """A linear classifier on randomly projected features. d channels, D projections, C classes.

    projection: [d, D].  weight: [D, C].  bias: [C].  sharpness: factor on the discriminant before a softmax.
    """

    projection: Tensor
    weight: Tensor
    bias: Tensor
    sharpness: float = 1.0

    @classmethod
    def blank(cls, projection: Tensor) -> Head:
        """Knows no class yet."""
        return cls(projection, projection.new_zeros(projection.shape[1], 0), projection.new_zeros(0))

    def logits(self, features: Tensor) -> Tensor:
        """features [B, d] -> [B, C], whose softmax are the answer's scores."""
        return self.sharpness * (project(features, self.projection) @ self.weight + self.bias)

    def to(self, device: torch.device | str) -> Head:
        return Head(self.projection.to(device), self.weight.to(device), self.bias.to(device), self.sharpness)


def project(features: Tensor, projection: Tensor) -> Tensor:
    """h = relu(f R) of features scaled to length one: [B, d] @ [d, D] -> [B, D]."""
    return (F.normalize(features, dim=-1) @ projection).relu()


def random_projection(dim: int, width: int, seed: int) -> Tensor:
    """R [d, D]: independent normal entries of variance 1/d."""
    return torch.randn(dim, width, generator=torch.Generator().manual_seed(seed)) / dim**0.5


def solve_discriminant(projected: ClassMoments, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Weight [D, C] and bias [C] from the moments of projected features.

    lambda is `shrinkage` times the mean variance of a projection.
    """
    if not projected.labels:
        return torch.zeros(projected.width, 0), torch.zeros(0)
    covariance = projected.covariance.clone()
    # One image a class has no variance; any positive lambda then makes this the nearest class mean.
    covariance.diagonal().add_(shrinkage * covariance.diagonal().mean().clamp_min(1e-9))
    means = projected.means
    weight = torch.cholesky_solve(means.mT, torch.linalg.cholesky(covariance))
    return weight.float(), (-0.5 * (means * weight.mT).sum(dim=1)).float()


def fit_sharpness(logits: Tensor, targets: Tensor) -> float:
    """The power of two, 2^-12 to 2^12, by which logits [n, C] give their targets [n] the least cross-entropy."""
    grid = [2.0**power for power in range(-12, 13)]
    return min(grid, key=lambda factor: F.cross_entropy(factor * logits, targets).item())
