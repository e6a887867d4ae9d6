"""What a state knows of each task, and what may be concluded from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from trainer.learning.config import ValidationConfig
from trainer.learning.state import LearnerState

TOLERATED_LOSS = 0.01
"""Share of their held-out images that the other tasks may lose with the slots."""

TELLING = 100
"""Held-out images that can tell so small a loss."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a state knows of each task: share of its held-out images answered rightly, now, one version ago, at best.

    kept: the same as `now`, among the labels known one version ago. That more classes are easier to confuse is no
        fault of a version; that it tells the old ones apart less well is.
    images: how many of each were looked at. A task that has just been learned is in `now` only.
    """

    now: Mapping[str, float]
    kept: Mapping[str, float]
    last: Mapping[str, float]
    best: Mapping[str, float]
    images: Mapping[str, int]

    @property
    def earlier_images(self) -> int:
        return sum(self.images[task] for task in self.kept)

    @property
    def held_out_images(self) -> int:
        return sum(self.images.values())

    @property
    def interference(self) -> float:
        """Share of earlier tasks' images that this version costs; 0 when there are none."""
        return self.over_images({task: self.last[task] - value for task, value in self.kept.items()})

    def over_images(self, figures: Mapping[str, float]) -> float:
        """Mean of a figure of tasks, each counted by its images: the one of a small task decides nothing alone."""
        images = sum(self.images[task] for task in figures)
        return sum(self.images[task] * value for task, value in figures.items()) / images if images else 0.0

    def refusal(self, config: ValidationConfig) -> str | None:
        """Why a version must not be served, None when it may."""
        if self.earlier_images < config.least_images or self.interference <= config.tolerated_loss:
            return None
        return (
            f"it costs earlier tasks {100 * self.interference:.1f} points on {self.earlier_images} held-out images, "
            f"{100 * config.tolerated_loss:.1f} are tolerated; if its labels are right, raise "
            "HIPPOTUNE_VALIDATION_TOLERATED_LOSS and try it again"
        )

    @property
    def metrics(self) -> dict[str, float]:
        """For the manifest: `accuracy`, `forgetting`, `interference`, how many images they rest on, `accuracy.<task>`.

        The average over tasks and, over earlier ones, the mean fall from each one's best, which is negative where they
        rose: A_t and F_t of Chaudhry et al., ECCV 2018. More classes alone make `forgetting` grow, `interference` not,
        which counts images alike.
        """
        if not self.now:
            return {}
        falls = [self.best[task] - value for task, value in self.now.items() if task in self.best]
        return {
            "accuracy": sum(self.now.values()) / len(self.now),
            "forgetting": sum(falls) / len(falls) if falls else 0.0,
            "interference": self.interference,
            "held_out_images": float(self.held_out_images),
            **{f"accuracy.{task}": value for task, value in self.now.items()},
        }

    def noted(self, state: LearnerState) -> LearnerState:
        """The state with these accuracies as its newest."""
        best = {task: max(value, self.best.get(task, 0.0)) for task, value in self.now.items()}
        return replace(state, last=self.now, best={**self.best, **best})


def rests_on(state: LearnerState, task: str, before: Report, after: Report) -> bool:
    """Whether other tasks need a task's slots.

    before, after: what the others know with its slots, and without. If too few held-out images could tell, the slots
    count as needed when another task was learned after this one.
    """
    if before.earlier_images < TELLING:
        return state.tasks[-1] != task
    falls = {other: value - after.now[other] for other, value in before.now.items()}
    return before.over_images(falls) > TOLERATED_LOSS
