"""HippoTune as the trainer runs it: `trainer.learning.learner.Learner`, called in the same order as by a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.continual.ablations import AblatedViT
from benchmarks.continual.methods.base import FeatureCache, Images, Setting, Watch
from benchmarks.continual.methods.budgets import sweep
from model.budget import BudgetBatch
from model.deliberation import LoopConfig
from model.diagnostics import diagnose, spectral_radius
from trainer.learning.config import LearnerConfig
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task

PER_TASK = 16
"""Images of each task that the diagnostics look at."""


@dataclass(frozen=True, slots=True)
class HippoTuneConfig:
    """fast_only: the streaming head alone; no task brings slots.

    variant: how layers consult their pools; see `ablations`.  sweep: whether other budgets are judged in the end.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    fast_only: bool = False
    variant: str = "loop"
    sweep: bool = False


class HippoTune:
    """Answers, while a task is being consolidated, as the service does: from its fast version."""

    def __init__(self, config: HippoTuneConfig, setting: Setting) -> None:
        self.config = config
        self.learner = Learner(AblatedViT(setting.backbone, config.loop, config.variant), config.learner)
        self.state = self.serving = self.learner.start()
        self.cache = FeatureCache()

    @property
    def labels(self) -> Sequence[str]:
        return self.serving.labels

    @property
    def trainable(self) -> int:
        """Slots and feedback projections; the linear head that teaches a task is thrown away and not counted."""
        pools = self.serving.pools
        return pools.keys.numel() + pools.values.numel() + (pools.feedback.numel() if pools.slots else 0)

    def learn(self, task: Task, watch: Watch) -> None:
        self.serving = self.learner.learn_fast(self.state, task)
        watch.served()
        if self.config.fast_only:
            self.state = self.serving = self.learner.consolidate_head(self.state, task)
            return
        batches = -(-len(task.labels) // self.learner.config.batch)

        def progress(share: float, figures: dict[str, float]) -> None:  # noqa: ARG001
            watch.trained(len(task.labels) / batches)

        self.state = self.serving = self.learner.consolidate(self.state, task, progress)

    def scores(self, images: Images) -> Tensor:
        return self.serving.head.logits_of_many(self.features(images))

    def features(self, images: Images) -> Tensor:
        """[n, F] under the pools now served."""
        pools = self.serving.pools
        return self.cache.get(pools, images, lambda pixels: self.learner.extract(pools, pixels))

    def infer(self, pixels: Tensor) -> Tensor:
        device = pixels.device
        budgets = BudgetBatch.repeat(self.config.loop.budget, len(pixels), device)
        memories = self.serving.pools.to(device).memories(self.config.loop)
        features = self.learner.network(pixels, memories, budgets)
        return self.serving.head.to(device).logits(features.vectors)

    def save(self, path: Path) -> None:
        self.state.save(path)

    def load(self, path: Path) -> None:
        self.state = self.serving = LearnerState.load(path)

    def report(self, tests: Sequence[Images]) -> dict[str, Any]:
        """The loop's diagnostics on a few images of each task, one entry a layer; nothing while there are no slots.

        And, where asked, what other budgets would have answered.
        """
        loop, network = self.config.loop, self.learner.network
        device = network.backbone.device
        memories = self.serving.pools.to(device).memories(loop)
        if not memories:
            return {}
        pixels = torch.cat([images.pixels[:: max(1, len(images.pixels) // PER_TASK)] for images in tests])
        with torch.no_grad():
            found = network(
                pixels.to(device), memories, BudgetBatch.repeat(loop.budget, len(pixels), device)
            ).recalls
        width = min(loop.topk, self.serving.pools.slots)
        judged = {"sweep": sweep(self.learner, self.serving, tests)} if self.config.sweep else {}
        return {
            **judged,
            "slots": self.serving.pools.slots,
            "loop": [asdict(diagnose(layer, self.serving.pools.slots)) for layer in found],
            "spectral_radius": [
                spectral_radius(layer.queries[:16, -1:], memory, loop, width).mean().item()
                for layer, memory in zip(found, memories, strict=True)
            ],
        }
