"""Trains one task's slots: the epochs inside `Learner.consolidate`, and how to continue after any of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.budget import BudgetBatch
from model.losses import orthogonality, retrieval_entropy
from model.network import Features, RetrievalViT
from model.pools import GrowingPools, Pools
from trainer.learning.config import LearnerConfig
from trainer.learning.lessons import lesson_of
from trainer.learning.precision import training_precision
from trainer.learning.state import LearnerState
from trainer.learning.task import Task

log = logging.getLogger(__name__)  # structlog is not there where a benchmark learns

FEATURE_LENGTH = 16.0
"""Length that features, which come with length one, are given before the linear head that teaches them."""

EPOCH_FORMAT = 1
"""Of what an `EpochState` holds: to be raised with all that makes older ones mean something else."""

Progress = Callable[[float, dict[str, float]], None]
"""Called with the share done, 0..1, and figures such as the loss; may raise to abandon the work."""


class Diverged(ArithmeticError):
    """Training ran into numbers that are none; the slots it was training are of no use."""


@dataclass(frozen=True, slots=True)
class EpochState:
    """Training after some epochs. tensors: parameters and Adam's moments by name; epoch: the next one to do."""

    epoch: int
    tensors: dict[str, Tensor]


class TaskTraining:
    """One task's slots and the linear head that teaches them.

    The head sees this task's classes only (masked logits), so that learning new classes never pushes old ones down,
    and is thrown away afterwards. What it has to tell apart is the lesson's business (`trainer.learning.lessons`).

    If anything was learned before, even by the head alone, slots train more slowly and features are held where they
    were, because the means of the older classes can only follow. Both apply less, the fewer images came before in
    proportion to the task's own.
    """

    def __init__(
        self,
        network: RetrievalViT,
        config: LearnerConfig,
        state: LearnerState,
        task: Task,
        before: Tensor,
    ) -> None:
        """before: [n, F], the images' features, of length one, under the pools so far."""
        self.network, self.config = network, config
        self.held = min(1.0, state.images / len(task.labels))  # 0 where nothing is known
        self.device = network.backbone.device
        self.lesson = lesson_of(task, before, config)
        self.task = self.lesson.task
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + len(state.tasks))
            base = state.pools.to(self.device)
            self.pools = GrowingPools(base, *self.first_slots()).to(self.device)
            self.classifier = nn.Linear(network.backbone.width, self.lesson.outputs).to(self.device)
        self.parameters = dict(self.pools.named_parameters()) | {
            f"classifier.{name}": parameter for name, parameter in self.classifier.named_parameters()
        }
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=config.lr * config.later_lr**self.held)

    def first_slots(self) -> tuple[Tensor, Tensor]:
        """Keys and values [L, m, d] to start from: random directions, keys of length one, values short.

        Starting from the task's own queries was worse: mean tokens of different images are so alike that keys laid on
        them answer every query with the same mixture.

        A value acts by its direction alone, since every reader of it normalises. Adam moves each number by about the
        learning rate, so it is the length at birth that says how fast a direction may turn: from standard normal
        values the slots hardly moved in a whole task.
        """
        shape = len(self.network.loop.layers), self.config.slots, self.network.backbone.dim
        return F.normalize(torch.randn(shape), dim=-1), self.config.value_scale * torch.randn(shape)

    @property
    def steps(self) -> int:
        """Updates in one pass over the images."""
        return math.ceil(len(self.task.labels) / self.config.batch)

    @property
    def epochs(self) -> int:
        """Passes over the images: a small task gets more, so that its slots move at all."""
        return passes(self.config.epochs, self.steps, self.lesson.least_steps)

    def run(
        self,
        progress: Progress | None = None,
        on_epoch: Callable[[EpochState], None] | None = None,
        resume: EpochState | None = None,
    ) -> Pools:
        """Train to the end and return the grown pools.

        Training ends with the last epoch, or with one that answered enough images rightly, once the least updates
        were made: more would move features and gain little. Raises Diverged.
        """
        epoch = 0
        if resume is not None and self.fits(resume):
            self.restore(resume)
            epoch = resume.epoch
        elif resume is not None:
            log.warning("task %s starts over: its epochs are of other parameters", self.task.id)
        while epoch < self.epochs:
            right = self.pass_over(epoch, progress)
            epoch += 1
            if epoch * self.steps >= self.lesson.least_steps and self.lesson.ends(right):
                epoch = self.epochs
            if on_epoch:
                on_epoch(self.snapshot(epoch))
        return self.pools.freeze(self.task.id).to("cpu")

    def pass_over(self, epoch: int, progress: Progress | None) -> float:
        """One epoch, counted from 0; returns the share of the images that it answered rightly. Raises Diverged."""
        generator, images = torch.Generator().manual_seed(epoch), len(self.task.labels)
        order = torch.randperm(images, generator=generator)
        mirrored = torch.rand(images, generator=generator) < self.config.mirror
        right = 0.0
        for step, rows in enumerate(order.split(self.config.batch), start=1):
            figures = self.step(rows, self.shown(rows, mirrored[rows], generator))
            if not math.isfinite(figures["loss"]):
                raise Diverged(f"the loss of epoch {epoch + 1} is {figures['loss']}")
            right += figures["train_accuracy"] * len(rows)
            if progress:
                progress((epoch + step / self.steps) / self.epochs, figures)
        return right / images

    def shown(self, rows: Tensor, mirrored: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels [b, 3, px, px] of the images `rows` [b], some of them `mirrored` [b], as training shows them."""
        pixels = self.task.pixels[rows]
        pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
        return self.lesson.shown(pixels, generator)

    def step(self, rows: Tensor, pixels: Tensor) -> dict[str, float]:
        """One update on `pixels` [b, 3, px, px] of the images `rows` [b]; returns its loss and accuracy."""
        pixels = pixels.to(self.device)
        features = self.passed(pixels, self.pools)
        logits = self.classifier(FEATURE_LENGTH * features.vectors)
        loss, right = self.lesson.judge(logits, rows.to(self.device))
        loss = loss + self.config.lambda_orth * orthogonality(self.pools.base.keys, self.pools.new_keys)
        if self.config.lambda_ent:
            loss = loss + self.config.lambda_ent * retrieval_entropy(features.recalls)
        if weight := self.held * self.config.drift_weight:
            loss = loss + weight * drift_of(self.placed(rows, pixels), features.vectors)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item(), "train_accuracy": right.item()}

    @torch.no_grad()
    def placed(self, rows: Tensor, pixels: Tensor) -> Tensor:
        """Where the pools so far put `pixels` of the images `rows` [b]: features [b, F] of length one."""
        if self.lesson.places is not None:
            return self.lesson.places[rows].to(self.device)  # of the image as it is, seen mirrored or not
        return F.normalize(self.passed(pixels, self.pools.base).vectors, dim=-1)

    def passed(self, pixels: Tensor, pools: Pools | GrowingPools) -> Features:
        """What the network makes of pixels [b, 3, px, px] under some pools."""
        loop = self.network.loop
        budgets = BudgetBatch.repeat(loop.budget, len(pixels), self.device)
        with training_precision(self.device):
            return self.network(pixels, pools.memories(loop), budgets, self.config.bptt)

    def snapshot(self, epoch: int) -> EpochState:
        """Everything the next epoch depends on."""
        tensors = {f"parameter.{name}": value.detach().clone() for name, value in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{name}/{key}"] = value.detach().clone()
        return EpochState(epoch, tensors)

    def fits(self, state: EpochState) -> bool:
        """Whether a snapshot is of the parameters trained here, which another release may name or shape otherwise."""
        shapes = {f"parameter.{name}": parameter.shape for name, parameter in self.parameters.items()}
        needed = set(shapes)
        for name, parameter in self.parameters.items():
            shapes |= {f"adam.{name}/{key}": parameter.shape for key in ("exp_avg", "exp_avg_sq")}
            shapes[f"adam.{name}/step"] = torch.Size()
        found = {name: tensor.shape for name, tensor in state.tensors.items()}
        return needed <= set(found) and found.items() <= shapes.items()

    @torch.no_grad()
    def restore(self, state: EpochState) -> None:
        """Continue from a snapshot that fits, of the same task on the same basis; `Lineage.basis` tells."""
        for name, parameter in self.parameters.items():
            parameter.copy_(state.tensors[f"parameter.{name}"])
            prefix = f"adam.{name}/"
            moments = {
                key.removeprefix(prefix): value
                for key, value in state.tensors.items()
                if key.startswith(prefix)
            }
            # Adam counts its steps on the CPU, wherever the parameter is.
            self.optimizer.state[parameter] = {
                key: value.to("cpu" if key == "step" else parameter.device, copy=True)
                for key, value in moments.items()
            }


def passes(epochs: int, steps: int, least_steps: int) -> int:
    """So many passes of `steps` updates, or as many more as it takes to make `least_steps`."""
    return max(epochs, math.ceil(least_steps / steps))


def drift_of(before: Tensor, after: Tensor) -> Tensor:
    """Mean squared distance between features [B, F] of length one and where they are now, scaled alike -> []."""
    return (F.normalize(after, dim=-1) - before).square().sum(dim=1).mean()
