"""RanPAC (McDonnell et al., NeurIPS 2023): adapt on the first task, then random features and ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.continual.methods.base import FeatureCache, Images, Setting, Watch, in_batches
from benchmarks.continual.methods.bodies import LoraConfig
from benchmarks.continual.methods.frozen import load_moments, save_moments
from benchmarks.continual.methods.trained import Trained, TrainedConfig
from model.moments import ClassMoments
from trainer.task import Task

RIDGES = tuple(10.0**power for power in range(-8, 9))
"""The paper's grid."""


@dataclass(frozen=True, slots=True)
class RanpacConfig:
    """first: how the first session adapts the backbone, which then stays as it is.

    width: M, random features; the paper takes 10,000.
    unit: whether features are scaled to length one before they are projected; the paper does not.
    """

    first: TrainedConfig = field(default_factory=lambda: TrainedConfig(LoraConfig(), lr=3e-3, head_lr=1e-2))
    width: int = 5000
    unit: bool = False


class Ranpac:
    """Ridge regression onto one-hot targets from the Gram matrix of relu(f R), lambda chosen on held-out images."""

    def __init__(self, config: RanpacConfig, setting: Setting) -> None:
        self.config, self.setting = config, setting
        self.session = Trained(config.first, setting)
        generator = torch.Generator().manual_seed(setting.seed)
        self.projection = torch.randn(self.session.body.width, config.width, generator=generator)
        self.moments = ClassMoments.empty(config.width)
        self.weight = torch.zeros(config.width, 0)
        self.cache = FeatureCache()

    @property
    def labels(self) -> Sequence[str]:
        return self.moments.labels or self.session.labels

    @property
    def trainable(self) -> int:
        """The first session's, without the head that is thrown away."""
        return sum(parameter.numel() for parameter in self.session.trained.values())

    def learn(self, task: Task, watch: Watch) -> None:
        adapting = self.session.tasks == 0 and self.config.first.epochs > 0
        if adapting:
            self.session.learn(task, watch)
        features = in_batches(self.features, task.pixels)
        projected = self.project(features)
        self.moments = self.moments.observe(projected, task.labels)
        self.weight = ridge(self.moments, best_ridge(projected.double(), task.labels, self.setting.seed))
        if not adapting:
            watch.trained(len(task.labels))

    def features(self, pixels: Tensor) -> Tensor:
        """[n, d]."""
        return self.session.features(pixels)

    def project(self, features: Tensor) -> Tensor:
        """relu(f R): [n, d] -> [n, M]."""
        features = F.normalize(features, dim=-1) if self.config.unit else features
        return (features @ self.projection.to(features)).relu()

    def scores(self, images: Images) -> Tensor:
        if not self.moments.labels:
            return self.session.scores(images)
        return self.classify(self.cache.get(self.session, images, self.features))

    def infer(self, pixels: Tensor) -> Tensor:
        return self.classify(self.features(pixels))

    def classify(self, features: Tensor) -> Tensor:
        """[n, d] -> [n, C]."""
        return self.project(features) @ self.weight.to(features)

    def save(self, path: Path) -> None:
        self.session.save(path.with_suffix(".session"))
        save_moments(path, self.moments, {"weight": self.weight})

    def load(self, path: Path) -> None:
        self.session.load(path.with_suffix(".session"))
        self.moments, tensors = load_moments(path)
        self.weight = tensors["weight"]

    def report(self, tests: Sequence[Images]) -> dict[str, Any]:  # noqa: ARG002
        return {}


def ridge(moments: ClassMoments, strength: float) -> Tensor:
    """(G + lambda I)^-1 C^T: weights [M, C] from the Gram matrix and the class sums."""
    gram = moments.gram.clone()
    # Random features of few images have no full rank: the smallest lambdas need this much to factor at all.
    gram.diagonal().add_(max(strength, 1e-9 * gram.diagonal().mean().item()))
    return torch.cholesky_solve(moments.sums.mT, torch.linalg.cholesky(gram)).float()


def best_ridge(projected: Tensor, labels: Sequence[str], seed: int) -> float:
    """The lambda of `RIDGES` that predicts a held-out fifth of one task [n, M] with the least squared error.

    Solved in the space of images, n x n, which gives the same weights as M x M.
    """
    classes = sorted(set(labels))
    targets = F.one_hot(torch.tensor([classes.index(label) for label in labels]), len(classes)).double()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = max(1, int(0.8 * len(order)))
    learned, judged = order[:cut], order[cut:]
    kernel = projected[learned] @ projected[learned].mT  # [n', n']
    across = projected[judged] @ projected[learned].mT
    values, vectors = torch.linalg.eigh(kernel)
    turned = vectors.mT @ targets[learned]

    def error(strength: float) -> float:
        answers = across @ (vectors @ (turned / (values.clamp_min(0) + strength).unsqueeze(1)))
        return F.mse_loss(answers, targets[judged]).item()

    return min(RIDGES, key=error)
