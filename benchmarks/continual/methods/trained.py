"""Methods that train a body and a linear head by gradient, told apart by their configuration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.continual.methods.base import EVALUATION_BATCH, FeatureCache, Images, Setting, Watch
from benchmarks.continual.methods.bodies import Body, FullConfig, LoraConfig
from benchmarks.continual.methods.prompts import PromptConfig
from model.checkpoint import read_tensors, write_tensors
from model.moments import label_rows
from trainer.learning.config import LearnerConfig
from trainer.learning.epochs import passes
from trainer.learning.precision import training_precision
from trainer.learning.task import Task
from trainer.learning.views import varied


@dataclass(frozen=True, slots=True)
class TrainedConfig:
    """How a body and a head are trained.

    body: what is trained between pixels and features.
    lr, head_lr: of the body and of the head.  optimizer: adam, or sgd with momentum 0.9.
    masked: cross-entropy over the classes of the task at hand alone, so that old ones are never pushed down.
    vary, mirror: whether images are seen in ever new crops and light, and the share of them seen mirrored, as our
        learner does.  epochs, least_steps, batch: as for every method.
    """

    body: FullConfig | LoraConfig | PromptConfig = field(default_factory=FullConfig)
    lr: float = 1e-4
    head_lr: float = 1e-3
    optimizer: str = "adam"
    masked: bool = True
    vary: bool = LearnerConfig().vary
    mirror: float = LearnerConfig().mirror
    epochs: int = LearnerConfig().epochs
    least_steps: int = LearnerConfig().least_steps
    batch: int = LearnerConfig().batch


class GrowingLinear(nn.Module):
    """A linear layer that gains outputs."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(0, dim))
        self.bias = nn.Parameter(torch.zeros(0))

    def grow(self, outputs: int) -> None:
        """Add so many rows, started as torch starts a linear layer; those there stay as they are."""
        if outputs:
            fresh = nn.Linear(self.weight.shape[1], outputs).to(self.weight.device)
            self.weight = nn.Parameter(torch.cat([self.weight.detach(), fresh.weight.detach()]))
            self.bias = nn.Parameter(torch.cat([self.bias.detach(), fresh.bias.detach()]))

    def forward(self, x: Tensor) -> Tensor:
        """[B, d] -> [B, C]."""
        return F.linear(x, self.weight, self.bias)


class Trained:
    """One body and one growing linear head, trained on one task after another."""

    def __init__(self, config: TrainedConfig, setting: Setting) -> None:
        self.config, self.setting = config, setting
        self.body: Body = config.body.build(setting)
        self.head = GrowingLinear(self.body.width).to(setting.device)
        self.known: tuple[str, ...] = ()
        self.tasks = 0
        self.queries = FeatureCache()

    @property
    def labels(self) -> Sequence[str]:
        return self.known

    @property
    def trainable(self) -> int:
        return sum(parameter.numel() for parameter in (*self.trained.values(), *self.head.parameters()))

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The body's parameters that train, by name."""
        return {name: value for name, value in self.body.named_parameters() if value.requires_grad}

    def learn(self, task: Task, watch: Watch) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 * self.setting.seed + self.tasks)
            self.grow(task.labels)
            self.body.begin(self.tasks)
            self.train(task, watch)
            self.settle(task)
        self.tasks += 1

    def grow(self, labels: Sequence[str]) -> None:
        """Give the head a row for every new label."""
        known = tuple(dict.fromkeys((*self.known, *labels)))
        self.head.grow(len(known) - len(self.known))
        self.known = known

    def train(self, task: Task, watch: Watch) -> None:
        """The epochs of one task."""
        targets = label_rows(task.labels, self.known).to(self.setting.device)
        present = targets.unique() if self.config.masked else torch.arange(len(self.known)).to(targets)
        optimizer = self.optimizer()
        steps = -(-len(targets) // self.config.batch)
        for epoch in range(passes(self.config.epochs, steps, self.config.least_steps)):
            generator = torch.Generator().manual_seed(epoch)
            order = torch.randperm(len(targets), generator=generator)
            mirrored = torch.rand(len(targets), generator=generator) < self.config.mirror
            for rows in order.split(self.config.batch):
                pixels = task.pixels[rows]
                pixels = torch.where(mirrored[rows].view(-1, 1, 1, 1), pixels.flip(-1), pixels)
                pixels = varied(pixels, generator) if self.config.vary else pixels
                pixels = pixels.to(self.setting.device)
                with training_precision(self.setting.device):
                    loss = self.loss(pixels, targets[rows.to(targets.device)], present)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                watch.trained(len(rows))

    def loss(self, pixels: Tensor, targets: Tensor, present: Tensor) -> Tensor:
        """Cross-entropy over the classes `present`, and the body's penalty -> []."""
        described = self.body.describe(pixels, self.body.ask(pixels), learning=True)
        logits = self.head(described.features) + self.hidden(present)
        return F.cross_entropy(logits, targets) + described.penalty

    def hidden(self, present: Tensor) -> Tensor:
        """[C], -inf for classes that are not `present`."""
        hidden = torch.full((len(self.known),), float("-inf"), device=present.device)
        hidden[present] = 0.0
        return hidden

    def settle(self, task: Task) -> None:
        """What a variant does with a task when its epochs are over."""

    def optimizer(self) -> torch.optim.Optimizer:
        """A new one for each task."""
        groups = [
            {"params": list(self.trained.values()), "lr": self.config.lr},
            {"params": list(self.head.parameters()), "lr": self.config.head_lr},
        ]
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(groups, momentum=0.9)
        return torch.optim.Adam(groups)

    def scores(self, images: Images) -> Tensor:
        device = self.setting.device
        queries = self.queries.get(self.body, images, lambda pixels: self.body.ask(pixels.to(device)))
        batches = zip(images.pixels.split(EVALUATION_BATCH), queries.split(EVALUATION_BATCH), strict=True)
        with torch.no_grad():
            features = [
                self.body.describe(p.to(device), q.to(device), learning=False).features for p, q in batches
            ]
            return torch.cat([self.head(chunk).float().cpu() for chunk in features])

    def infer(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels))

    def features(self, pixels: Tensor) -> Tensor:
        """[B, d]."""
        pixels = pixels.to(self.setting.device)
        return self.body.describe(pixels, self.body.ask(pixels), learning=False).features

    def save(self, path: Path) -> None:
        tensors = {f"body.{name}": value.detach() for name, value in self.trained.items()}
        tensors |= {f"head.{name}": value.detach() for name, value in self.head.named_parameters()}
        write_tensors(path, tensors | self.kept(), {"labels": self.known, "tasks": self.tasks})

    @torch.no_grad()
    def load(self, path: Path) -> None:
        tensors, facts = read_tensors(path)
        self.known, self.tasks = (), int(facts["tasks"])
        self.grow(facts["labels"])
        for name, value in self.trained.items():
            value.copy_(tensors[f"body.{name}"])
        for name, value in self.head.named_parameters():
            value.copy_(tensors[f"head.{name}"])
        self.restore(tensors)
        self.body.begin(self.tasks - 1)

    def kept(self) -> dict[str, Tensor]:
        """What else a variant's later tasks depend on."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `kept`."""

    def report(self, tests: Sequence[Images]) -> dict[str, Any]:  # noqa: ARG002
        return {}
