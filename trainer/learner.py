"""Learns one task at a time. Pure: a state and a task go in, a state comes out.

Two speeds, as in complementary learning systems. `learn_fast` adds a task's features to the streaming head, in
closed form. `consolidate` also grows the pools by the task's own slots, trains them, carries the statistics of older
classes along with the features the new slots have moved, and solves the head anew. Both keep moments, never images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from model.budget import BudgetBatch
from model.checkpoint import Checkpoint
from model.deliberation import Memory
from model.head import Head, fit_sharpness, project, solve_discriminant
from model.moments import ClassMoments, fit_drift, label_rows
from model.network import RetrievalViT
from model.pools import Pools
from trainer.config import LearnerConfig
from trainer.epochs import EpochState, TaskTraining
from trainer.state import LearnerState

Progress = Callable[[float, dict[str, float]], None]
"""Called with the share done, 0..1, and figures such as the loss."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task's images in memory. pixels: [n, 3, px, px] uint8.  labels: [n] names, new or known."""

    id: str
    pixels: Tensor
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or not self.labels:
            raise ValueError(
                f"{len(self.labels)} labels for {len(self.pixels)} images; a task needs both, in pairs"
            )


class Learner:
    """Learns tasks on one backbone. Holds settings and the frozen network, never what was learned."""

    def __init__(self, network: RetrievalViT, config: LearnerConfig) -> None:
        self.network = network
        self.config = config

    def start(self) -> LearnerState:
        """The state before the first task."""
        return LearnerState.start(self.network.backbone, self.network.loop, self.config)

    def learn_fast(self, state: LearnerState, task: Task) -> LearnerState:
        """Add a task to the head alone; the pools stay as they are. Exact in any order of tasks and images."""
        return self.absorb(state, self.extract(state.pools, task.pixels), task)

    def consolidate(
        self,
        state: LearnerState,
        task: Task,
        progress: Progress | None = None,
        on_epoch: Callable[[EpochState], None] | None = None,
        resume: EpochState | None = None,
    ) -> LearnerState:
        """Learn a task for good, starting from the state before it (not from its fast version).

        progress may raise to abandon the task.  on_epoch receives what `resume` takes to continue after that epoch
        as if never interrupted.
        """
        if not self.trains_pools(task):
            return self.adopt(state, task)
        before = self.extract(state.pools, task.pixels)
        training = TaskTraining(self.network, self.config, state, task.pixels, task.labels, before, task.id)
        pools = training.run(progress, on_epoch, resume)
        after = self.extract(pools, task.pixels)
        carried = self.carry(replace(state, pools=pools), fit_drift(before, after, self.config.drift_ridge))
        return replace(self.absorb(carried, after, task), tasks=(*state.tasks, task.id))

    def adopt(self, state: LearnerState, task: Task) -> LearnerState:
        """Learn a task for good with the head alone, which moves no feature of any other class."""
        return replace(self.learn_fast(state, task), tasks=(*state.tasks, task.id))

    def trains_pools(self, task: Task) -> bool:
        """Whether a task brings slots. One class alone has nothing to be told apart from."""
        return self.config.epochs > 0 and len(set(task.labels)) > 1

    @torch.inference_mode()
    def extract(self, pools: Pools, pixels: Tensor) -> Tensor:
        """Features [n, d], of length one, of pixels [n, 3, px, px] under some pools; on the CPU."""
        device = next(self.network.parameters()).device
        memories = pools.to(device).memories(self.network.loop)
        return torch.cat(
            [self.features(memories, chunk.to(device)) for chunk in pixels.split(self.config.batch)]
        )

    def features(self, memories: Sequence[Memory], pixels: Tensor) -> Tensor:
        budgets = BudgetBatch.repeat(self.network.loop.budget, len(pixels), pixels.device)
        return F.normalize(self.network(pixels, memories, budgets).vectors.float().cpu(), dim=-1)

    def absorb(self, state: LearnerState, features: Tensor, task: Task) -> LearnerState:
        """Add features [n, d] of a task to the statistics."""
        projected = project(features, state.projection)
        grown = replace(
            state,
            features=state.features.observe(features, task.labels),
            projected=state.projected.observe(projected, task.labels),
            sharpness=1.0,
        )
        targets = label_rows(task.labels, grown.projected.labels)
        return replace(grown, sharpness=fit_sharpness(self.head(grown).logits(features), targets))

    def carry(self, state: LearnerState, drift: Tensor) -> LearnerState:
        """Move old classes' statistics along a drift map [d, d], and draw the head's moments anew from them."""
        if not state.features.labels:
            return state
        features = state.features.carried(drift)
        generator = torch.Generator().manual_seed(self.config.seed + len(state.tasks))
        drawn, labels = features.sample(self.config.replay_per_class, generator)
        empty = ClassMoments.empty(state.projection.shape[1])
        return replace(
            state, features=features, projected=empty.observe(project(drawn, state.projection), labels)
        )

    def head(self, state: LearnerState) -> Head:
        """The classifier a state amounts to."""
        weight, bias = solve_discriminant(state.projected, self.config.shrinkage)
        return Head(state.projection, weight, bias, state.sharpness)

    def checkpoint(self, state: LearnerState) -> Checkpoint:
        """What a server needs of a state."""
        network, labels = self.network, state.projected.labels
        return Checkpoint(network.backbone.identity, network.loop, state.pools, self.head(state), labels)
