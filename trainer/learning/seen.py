"""Which images were learned under which label, so that none counts twice.

Folders grow and are handed in again, and downloads hold one picture under two names. In the sums twice, an image makes
its class look narrower than it is; and a head that is judged by leaving images out (`model.left_out`) has not left out
one whose twin is still in. So each label remembers its images, by eight bytes each: a million of them are 8 MB, and any
two are taken for one with a chance of 3 in 100 million.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

NO_DIGESTS = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, slots=True)
class Seen:
    """images: of each label the digests [k] int64 of its images, each once."""

    images: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many images."""
        return sum(map(len, self.images.values()))

    def new(self, labels: Sequence[str], digests: Tensor) -> Tensor:
        """[n] bool: which images, by label and digest [n], are not among these. Without digests [0]: all."""
        new = torch.ones(len(labels), dtype=torch.bool)
        if not len(digests):
            return new
        for label, rows in rows_by_label(labels).items():
            if label in self.images:
                new[rows] = ~torch.isin(digests[rows], self.images[label])
        return new

    def contradicting(self, digests: Tensor) -> int:
        """How many images are among these under more than one label, of those with digests [n]."""
        labels: dict[int, int] = {}
        for known in self.images.values():  # each label has an image once
            for digest in known[torch.isin(known, digests)].tolist():
                labels[digest] = labels.get(digest, 0) + 1
        return sum(count > 1 for count in labels.values())

    def plus(self, labels: Sequence[str], digests: Tensor) -> Seen:
        """These and others, by label and digest [n]."""
        added = {label: digests[rows] for label, rows in rows_by_label(labels).items()}
        return self.joined(Seen(added))

    def joined(self, *others: Seen) -> Seen:
        """These and others."""
        added: dict[str, list[Tensor]] = {}
        for other in others:
            for label, digests in other.images.items():
                added.setdefault(label, [self.images.get(label, NO_DIGESTS)]).append(digests)
        return Seen({**self.images, **{label: torch.cat(parts).unique() for label, parts in added.items()}})

    def only(self, labels: Collection[str]) -> Seen:
        """These of some labels."""
        return Seen({label: self.images[label] for label in self.images.keys() & labels})

    def without(self, labels: Collection[str]) -> Seen:
        """These without the images of some labels."""
        return Seen({label: digests for label, digests in self.images.items() if label not in labels})

    def renamed(self, label: str, becomes: str) -> Seen:
        """These with the images of one label under another, each once, with those that are there."""
        if label not in self.images:
            return self
        return self.without({label}).joined(Seen({becomes: self.images[label]}))

    def parts(self) -> tuple[Tensor, dict[str, int]]:
        """All digests in one tensor, and how many of them are of each label."""
        return torch.cat([NO_DIGESTS, *self.images.values()]), {
            label: len(digests) for label, digests in self.images.items()
        }

    @classmethod
    def put_together(cls, digests: Tensor, counts: Mapping[str, int]) -> Seen:
        """The inverse of `parts`. Raises ValueError where they do not fit each other."""
        if digests.dtype != torch.int64 or sum(counts.values()) != len(digests):
            raise ValueError(f"{sum(counts.values())} images seen, and digests of {len(digests)}")
        return cls(dict(zip(counts, digests.split(list(counts.values())), strict=True)))


def rows_by_label(labels: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each class, classes in the order in which they first appear."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return rows
