"""Held-out images: a small share of every task that is never trained on and tells what later tasks cost it.

Kept as pixels beside the versions, a few a class. They are the only images that outlive their task; with a share of
zero there are none, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.checkpoint import InvalidCheckpoint, read_tensors
from model.moments import label_rows
from trainer.config import ValidationConfig
from trainer.describer import Between
from trainer.learner import Learner
from trainer.seen import NO_DIGESTS, Seen, rows_by_label
from trainer.state import LearnerState
from trainer.task import Task, interleaved
from trainer.task_files import TaskFiles


@dataclass(frozen=True, slots=True)
class Report:
    """What a state knows of each task: share of its held-out images answered rightly, now, one version ago, at best.

    kept: the same as `now`, among the labels known one version ago. That more classes are easier to confuse is no
        fault of a version; that it tells the old ones apart less well is.
    images: how many of earlier tasks were looked at. A task that has just been learned is in `now` only.
    held_out_images: how many were, with those of that task.
    """

    now: Mapping[str, float]
    kept: Mapping[str, float]
    last: Mapping[str, float]
    best: Mapping[str, float]
    images: int
    held_out_images: int = 0

    @property
    def lost(self) -> float:
        """Mean over earlier tasks of what this version costs them; 0 when there are none."""
        drops = [self.last[task] - value for task, value in self.kept.items()]
        return sum(drops) / len(drops) if drops else 0.0

    def refusal(self, config: ValidationConfig) -> str | None:
        """Why a version must not be served, None when it may."""
        if self.images < config.least_images or self.lost <= config.tolerated_loss:
            return None
        return (
            f"it costs earlier tasks {100 * self.lost:.1f} points on {self.images} held-out images, "
            f"{100 * config.tolerated_loss:.1f} are tolerated"
        )

    @property
    def metrics(self) -> dict[str, float]:
        """For the manifest: `accuracy` and `forgetting` on average, how many images they rest on, `accuracy.<task>`.

        The average over tasks and, over earlier ones, the mean fall from each one's best, which is negative where they
        rose: A_t and F_t of Chaudhry et al., ECCV 2018.
        """
        if not self.now:
            return {}
        falls = [self.best[task] - value for task, value in self.now.items() if task in self.best]
        return {
            "accuracy": sum(self.now.values()) / len(self.now),
            "forgetting": sum(falls) / len(falls) if falls else 0.0,
            "held_out_images": float(self.held_out_images),
            **{f"accuracy.{task}": value for task, value in self.now.items()},
        }

    def noted(self, state: LearnerState) -> LearnerState:
        """The state with these accuracies as its newest."""
        best = {task: max(value, self.best.get(task, 0.0)) for task, value in self.now.items()}
        return replace(state, last=self.now, best={**self.best, **best})


def hold_out(
    labels: Sequence[str],
    digests: Tensor,
    config: ValidationConfig,
    learned: Collection[int] = frozenset(),
    held_before: Collection[int] = frozenset(),
) -> tuple[list[int], list[int]]:
    """Split a task's rows in what is learned and what is held out, the same way every time it is delivered.

    Of each class `share` is held out, rounded down, at most `per_class`; classes too small for one give none. Digests
    [n] of images are random, so those of the lowest are as good as drawn; and which they are is up to no other class.

    learned, held_before: rows that are known, since the task repeats others. They count for the share, so that a folder
        that grows a little a time adds to what is held out; at most half of what is new of a class does.
    """
    held, names = list[int](), digests.tolist()
    for every in rows_by_label(labels).values():
        new = [row for row in every if row not in learned and row not in held_before]
        count = min(int(len(every) * config.share), config.per_class) - sum(
            row in held_before for row in every
        )
        if len(new) < len(every):
            count = min(count, len(new) // 2)
        held += sorted(new, key=names.__getitem__)[: max(0, count)]
    return sorted(set(range(len(labels))) - set(held)), sorted(held)


class ValidationShelf(TaskFiles):
    """Held-out images on disk, a file a task."""

    def save(self, held_out: Task) -> None:
        """Raises StoreUnavailable."""
        tensors = {"pixels": held_out.pixels, "digests": held_out.digests}
        self.write(held_out.id, tensors, {"labels": held_out.labels})

    def leave_out(self, task: str, learned: Seen) -> None:
        """Keep none of a task's that were learned meanwhile. Raises StoreUnavailable."""
        if (held_out := self.load(task)) is not None:
            self._keep(held_out, learned.new(held_out.labels, held_out.digests))

    def forget(self, task: str, label: str, digests: Tensor) -> None:
        """Keep none of a task's of a class: by the digests [k] of its images, as the file may have them under an older
        name, or by its label where a file has no digests. Raises StoreUnavailable.
        """
        held_out = self.load(task)
        if held_out is None:
            return
        if len(held_out.digests):
            self._keep(held_out, ~torch.isin(held_out.digests, digests))
        else:
            self._keep(held_out, torch.tensor([own != label for own in held_out.labels]))

    def _keep(self, held_out: Task, rows: Tensor) -> None:
        """Keep the images `rows` [n] bool of those of a task."""
        if rows.any() and not rows.all():
            self.save(held_out.pick(rows.nonzero().squeeze(1).tolist()))
        elif not rows.any():
            self.discard(held_out.id)

    def holds(self, task: str) -> bool:
        """Whether there is a file of a task, readable or not."""
        return self._path(task).exists()

    def load(self, task: str) -> Task | None:
        """None when nothing was held out, or the file is damaged: what cannot be measured is not reported."""
        path = self._path(task)
        try:
            tensors, facts = read_tensors(path) if path.exists() else ({}, {})
            if not tensors:
                return None
            # Stores from before images were remembered have no digests.
            digests = tensors.get("digests", NO_DIGESTS)
            return Task(task, tensors["pixels"], tuple(facts["labels"]), digests)
        except (InvalidCheckpoint, OSError, KeyError, TypeError, ValueError):
            return None


def validate(
    learner: Learner,
    state: LearnerState,
    shelf: ValidationShelf,
    config: ValidationConfig,
    known: Collection[str],
    between: Between = None,
) -> Report:
    """Measure a state on the held-out images of its tasks, at most `config.images` of them.

    Each task that holds some out gives as many, one of each class in turn. The more tasks, the fewer each: of those it
    gave before, so that what is compared from version to version are the same images, as far as they go.

    known: labels of the version before.
    """
    now, kept, images, earlier = {}, {}, 0, 0
    labels, known = state.labels, frozenset(known)
    old = torch.tensor([label in known for label in labels], dtype=torch.bool)
    samples = samples_of(state, shelf, config.images)
    for sample, features in zip(samples, features_of(samples, learner, state, between), strict=True):
        logits = state.head.logits_of_many(features)
        targets = label_rows(sample.labels, labels)
        now[sample.id] = accuracy(logits, targets)
        images += len(targets)
        if sample.id in state.last:
            kept[sample.id] = accuracy(logits.masked_fill(~old, -torch.inf), targets)
            earlier += len(targets)
    return Report(now, kept, state.last, state.best, earlier, images)


def samples_of(state: LearnerState, shelf: ValidationShelf, most: int) -> list[Task]:
    """What is measured of each task, oldest first: at most about so many images in all."""
    tasks, samples = measured(state, shelf, most), []
    for task in tasks:
        held_out = as_known(state, shelf.load(task))
        if held_out is not None:
            samples.append(held_out.pick(interleaved(held_out.labels)[: most // len(tasks)].tolist()))
    return samples


def as_known(state: LearnerState, held_out: Task | None) -> Task | None:
    """A task's held-out images under the labels that a state has for them, without those that it has none for.

    A file tells the label that an image came with. Classes may be called otherwise since, and again as they were once
    somebody goes back to an older version, so a state knows them by their digests. None where no image is left.
    """
    if held_out is None:
        return None
    labels: list[str | None] = [*held_out.labels]
    if len(held_out.digests):
        known = labels_of_images(state.held_out.get(held_out.id, Seen()))
        names = [known.get(digest, []) for digest in held_out.digests.tolist()]
        labels = [own if own in of else next(iter(of), None) for own, of in zip(labels, names, strict=True)]
    usable = set(state.labels)
    rows = [row for row, label in enumerate(labels) if label in usable]
    named = tuple(label or "" for label in labels)
    return replace(held_out, labels=named).pick(rows) if rows else None


def labels_of_images(held: Seen) -> dict[int, list[str]]:
    """The labels of each image, by its digest."""
    known: dict[int, list[str]] = {}
    for label, digests in held.images.items():
        for digest in digests.tolist():
            known.setdefault(digest, []).append(label)
    return known


def features_of(
    samples: Sequence[Task], learner: Learner, state: LearnerState, between: Between
) -> Sequence[Tensor]:
    """Features [n, F] of each sample under the pools of a state."""
    if not samples:
        return ()
    pixels = torch.cat([sample.pixels for sample in samples])
    features = learner.measured(state.pools, pixels, between)
    return features.split([len(sample.labels) for sample in samples])


def measured(state: LearnerState, shelf: ValidationShelf, most: int) -> list[str]:
    """The tasks with held-out images, oldest first; of more than `most` a sample.

    Ids are random, so the first in their order are as good as drawn, and a new task replaces one of them at most.
    """
    held = [task for task in state.tasks if shelf.holds(task)]
    drawn = set(sorted(held)[:most])
    return [task for task in held if task in drawn]


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """Share of logits [n, C] that are largest at their target [n]."""
    return (logits.argmax(dim=1) == targets).float().mean().item()
