"""Scenarios: the tasks a data set is learned in, and what judges each of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from benchmarks.continual.data import Dataset, Subset

ORDER_SEED = 1993
"""iCaRL's class order seed, as the field uses it; a run's own seed is added, so that seed 0 is the usual order."""


@dataclass(frozen=True, slots=True)
class Experience:
    """One task of a stream: what is learned, and images that judge how well it is known from then on."""

    id: str
    train: Subset
    test: Subset


def class_incremental(data: Dataset, tasks: int, seed: int) -> tuple[Experience, ...]:
    """Disjoint groups of classes, in a random order. Raises ValueError for more tasks than classes."""
    if not 1 <= tasks <= len(data.classes):
        raise ValueError(f"tasks is {tasks}; {len(data.classes)} classes allow 1..{len(data.classes)}")
    order = np.random.default_rng(ORDER_SEED + seed).permutation(len(data.classes))
    return tuple(
        Experience(f"t{number:02}", merge(data.train, group), merge(data.test, group))
        for number, group in enumerate(np.array_split(order, tasks), start=1)
    )


def merge(parts: tuple[Subset, ...], places: np.ndarray) -> Subset:
    """The subsets at these places as one."""
    return reduce(add, (parts[place] for place in places))


SCENARIOS = {"class": class_incremental}
