"""A task as it is learned: images in memory, and the order they are looked at in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import torch
from torch import Tensor

from trainer.learning.seen import NO_DIGESTS, Seen, rows_by_label


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Task:
    """A task's images in memory. pixels: [n, 3, px, px] uint8.  labels: [n] names, new or known.

    digests: [n] int64, by which an image is known again; [0] where each counts as new.  held_out: images of the task
    that are not among these, and shall not be learned later either.

    Raises ValueError when they do not match in number, or are none. Two tasks are the same when they are one object:
    `FeatureCache` goes by that.
    """

    id: str
    pixels: Tensor
    labels: tuple[str, ...]
    digests: Tensor = NO_DIGESTS
    held_out: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or not self.labels:
            raise ValueError(
                f"{len(self.labels)} labels for {len(self.pixels)} images; a task needs both, in pairs"
            )

    def pick(self, rows: Sequence[int]) -> Task:
        """The same task with some of its images, in the order given."""
        taken, labels = list(rows), tuple(self.labels[row] for row in rows)
        digests = self.digests[taken] if len(self.digests) else NO_DIGESTS
        first = slice(len(taken)) if taken == list(range(len(taken))) else taken  # no copy
        return replace(self, pixels=self.pixels[first], labels=labels, digests=digests)

    def split(self, first: int) -> tuple[Task, Task | None]:
        """The first so many images, 1 at least, and the others, None where there are none. Neither is a copy."""
        if first == len(self.labels):
            return self, None
        parts = slice(first), slice(first, None)
        head, rest = (
            Task(self.id, self.pixels[part], self.labels[part], self.digests[part]) for part in parts
        )
        return replace(head, held_out=rest.seen), rest

    @property
    def seen(self) -> Seen:
        """The images of the task, without those held out; none without digests."""
        return Seen().plus(self.labels[: len(self.digests)], self.digests)


def interleaved(labels: Sequence[str]) -> Tensor:
    """[n] int64: the rows of a task, one of each class in turn."""
    turns = zip_longest(*rows_by_label(labels).values())
    return torch.tensor([row for turn in turns for row in turn if row is not None])
