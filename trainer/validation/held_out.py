"""Held-out images: a small share of every task that is never trained on and tells what later tasks cost it.

Kept as pixels beside the versions, a few a class. They are the only images that outlive their task; with a share of
zero there are none, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from model.moments import label_rows
from trainer.learning.config import ValidationConfig
from trainer.learning.describer import Between, go_on
from trainer.learning.learner import Learner
from trainer.learning.seen import Seen, rows_by_label
from trainer.learning.state import LearnerState
from trainer.learning.task import Task, interleaved
from trainer.store.validation_shelf import ValidationShelf
from trainer.validation.report import Report


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


def validate(
    learner: Learner,
    state: LearnerState,
    shelf: ValidationShelf,
    config: ValidationConfig,
    known: Collection[str],
    between: Between = go_on,
) -> Report:
    """Measure a state on the held-out images of its tasks, at most `config.images` of them.

    Each task that holds some out gives as many, or all that it has, one of each class in turn. The more tasks, the
    fewer each: of those it gave before, so that what is compared from version to version are the same images, as far
    as they go.

    known: labels of the version before.
    """
    now, kept, images = {}, {}, {}
    labels, known = state.labels, frozenset(known)
    old = torch.tensor([label in known for label in labels], dtype=torch.bool)
    samples = samples_of(state, shelf, config.images)
    for sample, features in zip(samples, features_of(samples, learner, state, between), strict=True):
        logits = state.head.logits_of_many(features)
        targets = label_rows(sample.labels, labels)
        now[sample.id] = accuracy(logits, targets)
        images[sample.id] = len(targets)
        if sample.id in state.last:
            kept[sample.id] = accuracy(logits.masked_fill(~old, -torch.inf), targets)
    return Report(now, kept, state.last, state.best, images)


def samples_of(state: LearnerState, shelf: ValidationShelf, most: int) -> list[Task]:
    """What is measured of each task, oldest first: at most about so many images in all."""
    tasks, samples = measured(state, shelf, most), []
    each = even_share([len(state.held_out.get(task, ())) or most for task in tasks], most)
    for task in tasks:
        held_out = as_known(state, shelf.load(task))
        if held_out is not None:
            samples.append(held_out.pick(interleaved(held_out.labels)[:each].tolist()))
    return samples


def even_share(sizes: Sequence[int], most: int) -> int:
    """The most that each may give for all to give `most`: what the small ones leave falls to the larger."""
    left = most
    for place, size in enumerate(sorted(sizes)):
        each = left // (len(sizes) - place)
        if size > each:
            return each
        left -= size
    return most


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
