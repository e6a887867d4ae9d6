"""A task as it is learned: images in memory, and the order they are looked at in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Task:
    """A task's images in memory. pixels: [n, 3, px, px] uint8.  labels: [n] names, new or known.

    Raises ValueError when they do not match in number, or are none. Two tasks are the same when they are one object:
    `Learner.described` goes by that.
    """

    id: str
    pixels: Tensor
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or not self.labels:
            raise ValueError(
                f"{len(self.labels)} labels for {len(self.pixels)} images; a task needs both, in pairs"
            )

    def pick(self, rows: Sequence[int]) -> Task:
        """The same task with some of its images, in the order given."""
        return Task(self.id, self.pixels[list(rows)], tuple(self.labels[row] for row in rows))

    def split(self, first: int) -> tuple[Task, Task | None]:
        """The first so many images, 1 at least, and the others, None where there are none. Neither is a copy."""
        if first == len(self.labels):
            return self, None
        parts = slice(first), slice(first, None)
        head, rest = (Task(self.id, self.pixels[part], self.labels[part]) for part in parts)
        return head, rest


def rows_by_label(labels: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each class, classes in the order in which they first appear."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return rows


def interleaved(labels: Sequence[str]) -> Tensor:
    """[n] int64: the rows of a task, one of each class in turn."""
    turns = zip_longest(*rows_by_label(labels).values())
    return torch.tensor([row for turn in turns for row in turn if row is not None])
