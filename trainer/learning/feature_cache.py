"""What was last made of each task, for as long as somebody holds the task: it saves time, and decides nothing.

Held-out images come from disk anew whenever they are measured, so these are known again by their pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar
from weakref import WeakKeyDictionary, ref

from torch import Tensor

from model.calibration import Sharpness
from model.pools import Pools
from model.usual import Usual
from trainer.learning.state import LearnerState
from trainer.learning.task import Task

Made = TypeVar("Made")

POOLS = 2
"""Pools whose features of an image are kept: those built on, and those with new slots that may be left out again."""


class Said(NamedTuple):
    """What a task's images say of a head, each left out: how sure it may be, and how strange images usually look."""

    sharpness: Sharpness
    usual: Usual


class FeatureCache:
    """The features last taken of each task, and what of it was new, so that each image passes the backbone once.

    Also what each said of the last head that it judged, and the head that it was served with alone.
    """

    def __init__(self) -> None:
        self._features: WeakKeyDictionary[Task, list[tuple[Pools, Tensor]]] = WeakKeyDictionary()
        self._parts: WeakKeyDictionary[Task, tuple[Tensor, Task]] = WeakKeyDictionary()
        self._begun: WeakKeyDictionary[Task, tuple[Tensor, Task]] = WeakKeyDictionary()
        self._said: WeakKeyDictionary[Task, tuple[Pools, Said]] = WeakKeyDictionary()
        self._learned: WeakKeyDictionary[Task, tuple[ref[LearnerState], ref[LearnerState]]] = (
            WeakKeyDictionary()
        )
        self._measured: list[tuple[Pools, dict[bytes, Tensor]]] = []

    def part(self, task: Task, rows: Tensor) -> Task:
        """The images `rows` [n] bool of a task: the same object as the last time, if these are the same."""
        last = self._parts.get(task)
        if last is None or not last[0].equal(rows):
            last = self._parts[task] = rows, task.pick(rows.nonzero().squeeze(1).tolist())
        return last[1]

    def features(self, pools: Pools, task: Task) -> Tensor | None:
        """Features [n, F] of a task's images under some pools, if those are among the last they were taken under."""
        taken = self._features.get(task, [])
        return next((features for kept, features in taken if kept.same(pools)), None)

    def keep(self, pools: Pools, task: Task, features: Tensor) -> Tensor:
        """Remember features [n, F] of a task's images under some pools; returns them."""
        self._features[task] = newest(pools, features, self._features.get(task, []))
        self._begun.pop(task, None)
        return features

    def begin(self, pools: Pools, task: Task, rows: Tensor, features: Tensor) -> Task:
        """Remember features [m, F] of the images `rows` [m] int64 of a task; returns these images as a task."""
        part = task.pick(rows.tolist())
        self.keep(pools, part, features)
        self._begun[task] = rows, part
        return part

    def begun(self, pools: Pools, task: Task) -> tuple[Tensor, Tensor] | None:
        """Rows [m] int64 and features [m, F] of what `begin` was told, if that was under these pools."""
        rows, part = self._begun.get(task, (None, None))
        features = None if part is None else self.features(pools, part)
        return None if rows is None or features is None else (rows, features)

    def said(self, pools: Pools, task: Task) -> Said | None:
        """What a task's images last said of a head, if that was under these pools."""
        last = self._said.get(task)
        return last[1] if last is not None and last[0].same(pools) else None

    def keep_said(self, pools: Pools, task: Task, said: Said) -> None:
        """Remember what a task's images said of a head, in place of earlier sayings."""
        self._said[task] = pools, said

    def learned(self, state: LearnerState, task: Task) -> LearnerState | None:
        """What `keep_learned` was told of this very state and task, for as long as somebody holds both states."""
        before, after = self._learned.get(task, (None, None))
        return after() if before is not None and after is not None and before() is state else None

    def keep_learned(self, state: LearnerState, task: Task, learned: LearnerState) -> None:
        """Remember what a state became by learning a task fast."""
        self._learned[task] = ref(state), ref(learned)

    def measured(self, pools: Pools) -> dict[bytes, Tensor]:
        """Features [F] of the images last measured under some pools, by `image_names`."""
        return next((features for kept, features in self._measured if kept.same(pools)), {})

    def keep_measured(self, pools: Pools, features: dict[bytes, Tensor]) -> None:
        """Remember features [F] of the images measured under some pools, in place of those measured before."""
        self._measured = newest(pools, features, self._measured)


def newest(pools: Pools, made: Made, before: Sequence[tuple[Pools, Made]]) -> list[tuple[Pools, Made]]:
    """What was made under some pools, and before it under others: of as many as are kept, newest first."""
    return [(pools, made), *(entry for entry in before if not entry[0].same(pools))][:POOLS]


def image_names(pixels: Tensor) -> Sequence[bytes]:
    """A name for each image [n, 3, px, px] uint8: a hash of its pixels."""
    return [hashlib.sha256(image.contiguous().numpy()).digest() for image in pixels]
