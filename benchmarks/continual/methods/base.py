"""What the harness asks of a method, and what it gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from model.backbone import Backbone
from trainer.learning.task import Task

EVALUATION_BATCH = 64


@dataclass(frozen=True, slots=True)
class Images:
    """Images a method is asked about, more than once. id: unique in a run.  pixels: [n, 3, px, px] uint8."""

    id: str
    pixels: Tensor
    names: tuple[str, ...]


class Watch(Protocol):
    """What a method reports while it learns. Either call may ask it for scores."""

    def trained(self, images: float) -> None:
        """One update was made, on so many images."""

    def served(self) -> None:
        """A first state was reached that is served while learning goes on."""


class Method(Protocol):
    """Learns tasks one after another and keeps what its configuration allows."""

    @property
    def labels(self) -> Sequence[str]:
        """[C] names of all classes seen, in the order of the scores."""

    @property
    def trainable(self) -> int:
        """Parameters trained by gradient, over all tasks so far."""

    def learn(self, task: Task, watch: Watch) -> None:
        """Learn one more task."""

    def scores(self, images: Images) -> Tensor:
        """[n, C] on the CPU, as it now stands; the highest is the answer."""

    def infer(self, pixels: Tensor) -> Tensor:
        """[n, C] for pixels on the method's device: what is done for one request."""

    def save(self, path: Path) -> None:
        """Write all that later tasks and answers depend on to one file."""

    def load(self, path: Path) -> None:
        """Continue from what `save` wrote."""

    def report(self, tests: Sequence[Images]) -> dict[str, Any]:
        """Figures of the method's own, measured in the end on each task's test images."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a method is built with besides its own configuration. tasks: how many will come."""

    backbone: Backbone
    seed: int
    tasks: int

    @property
    def device(self) -> torch.device:
        return self.backbone.device


@dataclass(slots=True)
class FeatureCache:
    """Features of images that come up again, for as long as what computes them stays the same.

    token: whatever stands for that state; another object empties the cache.
    """

    token: object = None
    kept: dict[str, Tensor] = field(default_factory=dict)

    def get(self, token: object, images: Images, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """[n, ...] on the CPU. compute: pixels on the CPU to features."""
        if token is not self.token:
            self.token, self.kept = token, {}
        if images.id not in self.kept:
            self.kept[images.id] = in_batches(compute, images.pixels)
        return self.kept[images.id]


@torch.no_grad()
def in_batches(compute: Callable[[Tensor], Tensor], pixels: Tensor, batch: int = EVALUATION_BATCH) -> Tensor:
    """A function of pixels over many, gathered on the CPU."""
    return torch.cat([compute(chunk).float().cpu() for chunk in pixels.split(batch)])


def percent_right(scores: Tensor, labels: Sequence[str], names: Sequence[str]) -> float:
    """Share of images whose best-scored label is their name, in percent. scores: [n, C]; a name may be unknown."""
    answers = [labels[row] for row in scores.argmax(dim=1).tolist()]
    return 100 * sum(a == b for a, b in zip(answers, names, strict=True)) / len(names)
