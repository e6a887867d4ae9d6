"""A head on features that stay as they are, nearest class mean; and how a method keeps its moments in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from benchmarks.continual.methods.base import FeatureCache, Images, Setting, Watch, in_batches
from model.checkpoint import read_tensors, write_tensors
from model.moments import ClassMoments
from trainer.learning.task import Task

SUMS = ("gram", "sums", "counts", "scatter")
"""What of moments is kept in a file, beside their labels."""


@dataclass(frozen=True, slots=True)
class FrozenNcmConfig:
    """Nothing to choose."""


class FrozenNcm:
    """Nearest class mean by cosine, on the backbone as it comes (Janson et al., 2022: a simple baseline)."""

    def __init__(self, config: FrozenNcmConfig, setting: Setting) -> None:  # noqa: ARG002
        self.backbone, self.device = setting.backbone, setting.device
        self.moments = ClassMoments.empty(setting.backbone.dim)
        self.cache = FeatureCache()

    @property
    def labels(self) -> Sequence[str]:
        return self.moments.labels

    @property
    def trainable(self) -> int:
        return 0

    def learn(self, task: Task, watch: Watch) -> None:
        self.moments = self.moments.observe(in_batches(self.features, task.pixels), task.labels)
        watch.trained(len(task.labels))

    def features(self, pixels: Tensor) -> Tensor:
        """[n, d] of length one."""
        backbone = self.backbone
        tokens = backbone.vit.blocks(backbone.embed(pixels.to(self.device)))
        return F.normalize(backbone.pool(tokens).float(), dim=-1)

    def scores(self, images: Images) -> Tensor:
        return self.classify(self.cache.get(self.backbone, images, self.features))

    def infer(self, pixels: Tensor) -> Tensor:
        return self.classify(self.features(pixels))

    def classify(self, features: Tensor) -> Tensor:
        """Cosines with the class means: [n, d] -> [n, C]."""
        return features @ F.normalize(self.moments.means, dim=-1).to(features).mT

    def save(self, path: Path) -> None:
        save_moments(path, self.moments)

    def load(self, path: Path) -> None:
        self.moments, _ = load_moments(path)

    def report(self, tests: Sequence[Images]) -> dict[str, Any]:  # noqa: ARG002
        return {}


def save_moments(path: Path, moments: ClassMoments, extra: dict[str, Tensor] | None = None) -> None:
    """Moments, and tensors of the method's own, in one file."""
    tensors = {name: getattr(moments, name) for name in SUMS}
    write_tensors(path, tensors | (extra or {}), {"labels": moments.labels})


def load_moments(path: Path) -> tuple[ClassMoments, dict[str, Tensor]]:
    """What `save_moments` wrote."""
    tensors, facts = read_tensors(path)
    gram, sums, counts, scatter = (tensors.pop(name) for name in SUMS)
    return ClassMoments(gram, sums, counts, scatter, tuple(facts["labels"])), tensors
