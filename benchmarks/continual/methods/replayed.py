"""DER++ (Buzzega et al., NeurIPS 2020): keeps images of old tasks, which no other method here does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.continual.methods.base import Setting
from benchmarks.continual.methods.bodies import LoraConfig
from benchmarks.continual.methods.trained import Trained, TrainedConfig


@dataclass(frozen=True, slots=True)
class ReplayedConfig:
    """trained: body and head.  buffer: images kept, over all tasks, by reservoir sampling.

    alpha: weight of the distance to the logits of back then.  beta: weight of the labels of another draw.
    """

    trained: TrainedConfig = field(
        default_factory=lambda: TrainedConfig(LoraConfig(), lr=1e-3, head_lr=1e-2, masked=False)
    )
    buffer: int = 500
    alpha: float = 0.1
    beta: float = 0.5


class Replayed(Trained):
    """Cross-entropy + alpha |h(x') - z'|^2 + beta cross-entropy(h(x''), y''), x' and x'' drawn from the buffer."""

    def __init__(self, config: ReplayedConfig, setting: Setting) -> None:
        super().__init__(config.trained, setting)
        self.replay, self.seen, px = config, 0, setting.backbone.px
        self.pixels = torch.zeros(0, 3, px, px, dtype=torch.uint8)
        self.targets = torch.zeros(0, dtype=torch.int64)
        self.logits = torch.zeros(0, 0)

    def loss(self, pixels: Tensor, targets: Tensor, present: Tensor) -> Tensor:
        described = self.body.describe(pixels, self.body.ask(pixels), learning=True)
        logits = self.head(described.features)
        loss = F.cross_entropy(logits + self.hidden(present), targets) + described.penalty
        if len(self.pixels):
            then, _, old = self.draw(len(pixels))
            known = ~torch.isnan(old)  # a logit of a class that came later has nothing to be compared with
            loss = loss + self.replay.alpha * F.mse_loss(then[known], old[known])
            again, labels, _ = self.draw(len(pixels))
            loss = loss + self.replay.beta * F.cross_entropy(again, labels)
        self.reserve(pixels.cpu(), targets.cpu(), logits.detach().float().cpu())
        return loss

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logits now [n, C], labels [n] and logits then [n, C] of images from the buffer; nan where there was none."""
        rows = torch.randperm(len(self.pixels))[:count]
        device = self.setting.device
        return (
            self.head(self.features(self.pixels[rows])),
            self.targets[rows].to(device),
            widened(self.logits[rows], len(self.known)).to(device),
        )

    def reserve(self, pixels: Tensor, targets: Tensor, logits: Tensor) -> None:
        """Reservoir sampling: after n images, each of them is in the buffer with the same chance."""
        self.logits = widened(self.logits, len(self.known))
        for image, target, logit in zip(pixels, targets, logits, strict=True):
            self.seen += 1
            if len(self.pixels) < self.replay.buffer:
                self.pixels = torch.cat([self.pixels, image[None]])
                self.targets = torch.cat([self.targets, target[None]])
                self.logits = torch.cat([self.logits, logit[None]])
            elif (place := int(torch.randint(self.seen, ()))) < self.replay.buffer:
                self.pixels[place], self.targets[place], self.logits[place] = image, target, logit

    def kept(self) -> dict[str, Tensor]:
        return {
            "pixels": self.pixels, "targets": self.targets, "logits": self.logits, "seen": torch.tensor(self.seen),
        }  # fmt: skip

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.pixels, self.targets, self.logits = (tensors[name] for name in ("pixels", "targets", "logits"))
        self.seen = int(tensors["seen"])

    def report(self, tests: object) -> dict[str, Any]:  # noqa: ARG002
        """Whoever reads the figures must know that this method keeps images."""
        return {"images_kept": len(self.pixels)}


def widened(logits: Tensor, classes: int) -> Tensor:
    """Logits [n, c] with nan for classes they knew nothing of: [n, C]."""
    return F.pad(logits, (0, classes - logits.shape[1]), value=float("nan"))
