"""The streaming analytic head: random projection, then ridge regression from accumulated moments.

Features pass a fixed random layer h = relu(f R) and a linear map W that minimises |H W - Y|^2 + lambda |W|^2, which
needs only H^T H and H^T Y. Both are sums over images, so data may come in any order and any split, and no image is
kept. (RanPAC, McDonnell et al., NeurIPS 2023; the recursion is that of recursive least squares.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.moments import ClassMoments


@dataclass(frozen=True, slots=True)
class Head:
    """A linear classifier on randomly projected features. d channels, D projected, C classes.

    projection: [d, D].  weight: [D, C].  sharpness: factor on the regression's output before a softmax.
    """

    projection: Tensor
    weight: Tensor
    sharpness: float = 1.0

    def logits(self, features: Tensor) -> Tensor:
        """features [B, d] -> [B, C], whose softmax are the answer's scores."""
        return self.sharpness * (project(features, self.projection) @ self.weight)

    def to(self, device: torch.device | str) -> Head:
        return Head(self.projection.to(device), self.weight.to(device), self.sharpness)


def project(features: Tensor, projection: Tensor) -> Tensor:
    """h = relu(f R): [B, d] @ [d, D] -> [B, D]."""
    return (features @ projection).relu()


def random_projection(dim: int, width: int, seed: int) -> Tensor:
    """R [d, D]: independent normal entries of variance 1/d."""
    return torch.randn(dim, width, generator=torch.Generator().manual_seed(seed)) / dim**0.5


def solve_ridge(projected: ClassMoments, ridge: float) -> Tensor:
    """W [D, C] from the moments of projected features; lambda is `ridge` times the Gram matrix's mean diagonal.

    In float64, where the factorisation of a nearly singular Gram matrix still holds.
    """
    if not projected.labels:
        return torch.zeros(projected.width, 0)
    gram = projected.gram.double()
    gram.diagonal().add_(ridge * gram.diagonal().mean().clamp_min(1e-12))
    factor = torch.linalg.cholesky(gram)
    return torch.cholesky_solve(projected.sums.double().mT, factor).float()


def fit_sharpness(logits: Tensor, targets: Tensor) -> float:
    """The power of two in 1..256 that, as a factor on logits [n, C], gives targets [n] the least cross-entropy."""
    grid = [2.0**power for power in range(9)]
    return min(grid, key=lambda factor: F.cross_entropy(factor * logits, targets).item())
