"""What a task's slots are taught to tell apart: its classes, or its images as well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from model.moments import label_rows
from trainer.learning.config import LearnerConfig
from trainer.learning.task import Task, interleaved
from trainer.learning.views import varied

EXEMPLARS = 1024
"""Images that are told from each other at most; of more, so many are chosen evenly."""


class Lesson(Protocol):
    """n images to train on, and how a linear head's answers to them are judged.

    task: these images.  places: [n, F], their features of length one under the pools so far; None where training shows
    the images otherwise, and so elsewhere, each time.  outputs: of the linear head.  least_steps: updates at least.
    """

    @property
    def task(self) -> Task: ...

    @property
    def places(self) -> Tensor | None: ...

    @property
    def outputs(self) -> int: ...

    @property
    def least_steps(self) -> int: ...

    def shown(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels [b, 3, px, px] as training shows them."""

    def judge(self, logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """L_cls [] of the linear head's logits [b, outputs] for the images `rows` [b], and the share of classes right
        []; on the device of the logits."""

    def ends(self, right: float) -> bool:
        """Whether an epoch that answered this share of classes rightly is the last."""


@dataclass(frozen=True, slots=True)
class ClassLesson:
    """Classes alone.

    targets: [n], the class of each image.  vary: whether images are shown in ever new crops and light.
    """

    task: Task
    places: Tensor | None
    targets: Tensor
    outputs: int
    least_steps: int
    enough: float
    vary: bool

    @classmethod
    def of(cls, task: Task, places: Tensor, config: LearnerConfig) -> ClassLesson:
        """places: [n, F], of all images of the task."""
        classes = tuple(dict.fromkeys(task.labels))
        targets = label_rows(task.labels, classes)
        known = None if config.vary else places
        return cls(task, known, targets, len(classes), config.least_steps, config.enough, config.vary)

    def shown(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        return varied(pixels, generator) if self.vary else pixels

    def judge(self, logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return judged(logits, self.targets.to(logits.device)[rows])

    def ends(self, right: float) -> bool:
        return right >= self.enough


@dataclass(frozen=True, slots=True)
class ImageLesson:
    """Images too, each shown in ever new crops and light, as in exemplar networks (Dosovitskiy et al., NIPS 2014).

    Few classes are told apart too soon to teach slots much, so it does not end early either.
    targets: [n], the class of each image.
    """

    task: Task
    targets: Tensor
    least_steps: int
    places: None = None

    @classmethod
    def of(cls, task: Task, config: LearnerConfig) -> ImageLesson:
        """Of `EXEMPLARS` images of the task or hardly more, one of each class at least."""
        classes, order = tuple(dict.fromkeys(task.labels)), interleaved(task.labels).tolist()
        every = math.ceil(len(order) / EXEMPLARS)
        chosen = task.pick(sorted({*order[: len(classes)], *order[::every]}))
        return cls(chosen, label_rows(chosen.labels, classes), config.least_steps)

    @property
    def outputs(self) -> int:
        return len(self.targets)

    def shown(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        return varied(pixels, generator)

    def judge(self, logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """A class has the logsumexp of its images' logits; the loss is the mean of both entropies."""
        targets = self.targets.to(logits.device)
        own = F.one_hot(targets).T.log()  # [C, n], 0 for a class' own images and -inf for others
        loss, right = judged((logits.unsqueeze(1) + own).logsumexp(dim=2), targets[rows])
        return (loss + F.cross_entropy(logits, rows)) / 2, right

    def ends(self, _: float) -> bool:
        return False


def judged(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The cross-entropy [] of logits [b, C] with targets [b], and the share [] that is right."""
    return F.cross_entropy(logits, targets), (logits.argmax(dim=1) == targets).float().mean()


def lesson_of(task: Task, places: Tensor, config: LearnerConfig) -> Lesson:
    """What the configuration has a task teach. places: [n, F], where the pools so far put its images."""
    few = len(set(task.labels)) < config.few_classes
    return ImageLesson.of(task, config) if few else ClassLesson.of(task, places, config)
