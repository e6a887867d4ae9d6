"""RanPAC (McDonnell et al., NeurIPS 2023): adapt on the first task, then random features and ridge regression.

It departs from the authors' code where that would cripple it here. Their lambda is chosen on images held out of the
task at hand: ten of them leave it to chance, and with a single class the smallest always wins, since predicting 1 for
everything is exact. Here the held-out images of all tasks decide, kept as sums. And a first task of very few images
leaves it to a later one to adapt the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import le, lt
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
from trainer.learning.config import LearnerConfig
from trainer.learning.task import Task

RIDGES = tuple(10.0**power for power in range(-8, 9))
"""The paper's grid."""
HELD_OUT = 5
"""One image in so many is held out to choose lambda, as in the authors' code."""


@dataclass(frozen=True, slots=True)
class RanpacConfig:
    """first: how the first session adapts the backbone, which then stays as it is.

    least_images: a task must bring for the backbone to be adapted on it, as ours must to train slots.
    width: M, random features; the paper takes 10,000.
    unit: whether features are scaled to length one before they are projected; the paper does not.
    """

    first: TrainedConfig = field(default_factory=lambda: TrainedConfig(LoraConfig(), lr=3e-3, head_lr=1e-2))
    least_images: int = LearnerConfig().least_images
    width: int = 5000
    unit: bool = False


class Ranpac:
    """Ridge regression onto one-hot targets from the Gram matrix of relu(f R), lambda chosen on held-out images.

    moments: of all images.  judges: of those held out.
    """

    def __init__(self, config: RanpacConfig, setting: Setting) -> None:
        self.config, self.setting = config, setting
        self.session = Trained(config.first, setting)
        generator = torch.Generator().manual_seed(setting.seed)
        self.projection = torch.randn(self.session.body.width, config.width, generator=generator)
        self.moments = self.judges = ClassMoments.empty(config.width)
        self.strength = 1.0
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
        adapting = (
            self.session.tasks == 0
            and self.config.first.epochs > 0
            and len(task.labels) >= self.config.least_images
        )
        if adapting:
            self.session.learn(task, watch)
        projected = self.project(in_batches(self.features, task.pixels))
        self.moments = self.moments.observe(projected, task.labels)
        judges = held_out(len(task.labels), self.setting.seed)
        self.judges = self.judges.observe(projected[judges], tuple(task.labels[row] for row in judges))
        self.strength = best_ridge(self.moments, self.judges, self.strength)
        self.weight = ridge(self.moments.gram, self.moments.sums, self.strength).float()
        if adapting:
            self.cache = FeatureCache()
        else:
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
        save_moments(path.with_suffix(".judges"), self.judges)
        save_moments(
            path,
            self.moments,
            {"weight": self.weight, "strength": torch.tensor(self.strength, dtype=torch.float64)},
        )

    def load(self, path: Path) -> None:
        self.session.load(path.with_suffix(".session"))
        self.judges, _ = load_moments(path.with_suffix(".judges"))
        self.moments, tensors = load_moments(path)
        self.weight, self.strength = tensors["weight"], tensors["strength"].item()

    def report(self, tests: Sequence[Images]) -> dict[str, Any]:  # noqa: ARG002
        return {}


def held_out(count: int, seed: int) -> list[int]:
    """Which of so many images of a task choose lambda: one in `HELD_OUT`, drawn at random; all others are fitted."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // HELD_OUT].tolist()


def ridge(gram: Tensor, sums: Tensor, strength: float) -> Tensor:
    """(G + lambda I)^-1 C^T: weights [M, C] from a Gram matrix [M, M] and class sums [C, M]."""
    gram = gram.clone()
    # Random features of few images have no full rank: the smallest lambdas need this much to factor at all.
    gram.diagonal().add_(max(strength, 1e-9 * gram.diagonal().mean().item()))
    return torch.cholesky_solve(sums.mT, torch.linalg.cholesky(gram))


def best_ridge(moments: ClassMoments, judges: ClassMoments, start: float) -> float:
    """The lambda of `RIDGES` whose weights, of all images but the judges, predict these with the least squared error.

    Looked for from `start`, one of them, upwards and downwards for as long as the error falls: a task changes the best
    little, and each costs a factorisation of M x M.
    """
    targets = torch.zeros_like(moments.sums)
    targets[[moments.labels.index(label) for label in judges.labels]] = judges.sums
    gram, sums = moments.gram - judges.gram, moments.sums - targets

    def error(strength: float) -> float:
        """|A W - Y|^2 of the judges' features A and one-hot targets Y, less |Y|^2."""
        weight = ridge(gram, sums, strength)
        return ((judges.gram @ weight) * weight).sum().item() - 2 * (targets * weight.mT).sum().item()

    if not judges.labels:
        return start
    place, least = RIDGES.index(start), error(start)
    # Upwards past equals too: the smallest all come to the same, see `ridge`.
    for step, better in ((1, le), (-1, lt)):
        while 0 <= place + step < len(RIDGES) and better(tried := error(RIDGES[place + step]), least):
            place, least = place + step, tried
    return RIDGES[place]
