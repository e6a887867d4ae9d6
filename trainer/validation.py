"""Held-out images: a small share of every task that is never trained on and tells what later tasks cost it.

Kept as pixels beside the versions, a few a class. They are the only images that outlive their task; with a share of
zero there are none, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from model.checkpoint import InvalidCheckpoint, read_tensors, write_tensors
from model.moments import label_rows
from trainer.config import ValidationConfig
from trainer.learner import Learner, Task
from trainer.state import LearnerState


@dataclass(frozen=True, slots=True)
class Report:
    """What a state knows of each task: share of its held-out images answered rightly, now, one version ago, at best.

    A task that has just been learned is in `now` only.
    """

    now: Mapping[str, float]
    last: Mapping[str, float]
    best: Mapping[str, float]

    @property
    def lost(self) -> float:
        """Mean over earlier tasks of what this version costs them; 0 when there are none."""
        drops = [self.last[task] - value for task, value in self.now.items() if task in self.last]
        return sum(drops) / len(drops) if drops else 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """For the manifest: `accuracy` and `forgetting` on average, `accuracy.<task>` one by one.

        The average over tasks and the mean fall from each one's best: A_t and F_t of Chaudhry et al., ECCV 2018.
        """
        if not self.now:
            return {}
        falls = [max(0.0, self.best.get(task, value) - value) for task, value in self.now.items()]
        return {
            "accuracy": sum(self.now.values()) / len(self.now),
            "forgetting": sum(falls) / len(falls),
            **{f"accuracy.{task}": value for task, value in self.now.items()},
        }

    def noted(self, state: LearnerState) -> LearnerState:
        """The state with these accuracies as its newest."""
        best = {task: max(value, self.best.get(task, 0.0)) for task, value in self.now.items()}
        return replace(state, last=self.now, best={**self.best, **best})


def hold_out(task: Task, config: ValidationConfig) -> tuple[Task, Task | None]:
    """Split a task in what is learned and what is held out, the same way every time it is delivered.

    Of each class `share` is held out, rounded down, at most `per_class`; classes too small for one give none.
    """
    generator = torch.Generator().manual_seed(0)
    held: list[int] = []
    for label in dict.fromkeys(task.labels):
        rows = [row for row, other in enumerate(task.labels) if other == label]
        count = min(int(len(rows) * config.share), config.per_class)
        order = torch.randperm(len(rows), generator=generator)[:count]
        held += [rows[i] for i in order.tolist()]
    if not held:
        return task, None
    kept = sorted(set(range(len(task.labels))) - set(held))
    return task.pick(kept), task.pick(sorted(held))


class ValidationShelf:
    """Held-out images on disk, a file a task."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def save(self, held_out: Task) -> None:
        path = self._path(held_out.id)
        temporary = path.with_suffix(".part")
        write_tensors(temporary, {"pixels": held_out.pixels}, {"labels": held_out.labels})
        temporary.replace(path)

    def load(self, task: str) -> Task | None:
        """None when nothing was held out, or the file is damaged: what cannot be measured is not reported."""
        path = self._path(task)
        try:
            tensors, facts = read_tensors(path) if path.exists() else ({}, {})
        except InvalidCheckpoint:
            return None
        return Task(task, tensors["pixels"], tuple(facts["labels"])) if tensors else None

    def keep_only(self, tasks: Sequence[str]) -> None:
        """Drop the images of tasks no version knows any more."""
        for path in self.root.glob("*.safetensors"):
            if path.stem not in tasks:
                path.unlink(missing_ok=True)

    def _path(self, task: str) -> Path:
        return self.root / f"{task}.safetensors"


def validate(
    learner: Learner, state: LearnerState, shelf: ValidationShelf, config: ValidationConfig
) -> Report:
    """Measure a state on the held-out images of its tasks, as many of each as fit `config.images` in all."""
    accuracy = {}
    for task in state.tasks:
        held_out = shelf.load(task)
        if held_out is None:
            continue
        rows = range(
            0, len(held_out.labels), max(1, len(held_out.labels) * len(state.tasks) // config.images)
        )
        sample = held_out.pick(rows)
        answers = state.head.logits(learner.extract(state.pools, sample.pixels)).argmax(dim=1)
        right = answers == label_rows(sample.labels, state.projected.labels)
        accuracy[task] = right.float().mean().item()
    return Report(accuracy, state.last, state.best)
