"""Scenarios: the tasks a data set is learned in, and what judges each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

from benchmarks.continual.data import Dataset, Subset
from benchmarks.continual.superclasses import superclass_of

ORDER_SEED = 1993
"""The field's seed for the order of classes, to which a run's own is added. With NumPy's newer generator, so the order
is not the one that papers use."""

TRIED = 2
"""Classes of a trial, with one image each."""

BLUR = 0.3
"""Share of a class that other tasks bring, when boundaries are blurred."""


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
        experience(number, [data.train[place] for place in group], [data.test[place] for place in group])
        for number, group in enumerate(np.array_split(order, tasks), start=1)
    )


def domain_incremental(data: Dataset, tasks: int, seed: int) -> tuple[Experience, ...]:
    """The same labels in every task, each time from another domain: CIFAR-100's superclasses by their classes.

    Task t brings the t-th class of every superclass, in a random order, under the superclass' name: `tree` is oaks
    first, palms next. A subpopulation shift as in BREEDS (Santurkar et al., ICLR 2021). Raises ValueError for other
    data and for a number of tasks that is not the five classes a superclass has.
    """
    domains: dict[str, list[int]] = {}
    for place in np.random.default_rng(ORDER_SEED + seed).permutation(len(data.classes)):
        domains.setdefault(superclass_of(data.classes[place]), []).append(int(place))
    sizes = {len(places) for places in domains.values()}
    if sizes != {tasks}:
        raise ValueError(f"tasks is {tasks}; a superclass has {sorted(sizes)} classes, one for each task")
    return tuple(
        experience(
            number + 1,
            [renamed(data.train[places[number]], name) for name, places in domains.items()],
            [renamed(data.test[places[number]], name) for name, places in domains.items()],
        )
        for number in range(tasks)
    )


def blurred(data: Dataset, tasks: int, seed: int) -> tuple[Experience, ...]:
    """Class-incremental, but a share of each class' training images comes in other tasks, before or after its own.

    Blurry-30 of Bang et al. (CVPR 2021): labels recur and no boundary is sharp. Each task is judged by its own
    classes.
    """
    sharp = class_incremental(data, tasks, seed)
    generator = np.random.default_rng(ORDER_SEED + seed)
    brought: list[list[Subset]] = [[] for _ in sharp]
    for home, one in enumerate(sharp):
        strays = generator.random(len(one.train.rows)) < BLUR
        away = (home + generator.integers(1, max(2, tasks), len(strays))) % tasks
        for task in range(tasks):
            here = np.flatnonzero(strays & (away == task)) if task != home else np.flatnonzero(~strays)
            brought[task].append(one.train.pick(here.tolist()))
    return tuple(replace(one, train=reduce(add, parts)) for one, parts in zip(sharp, brought, strict=True))


def after_trial(data: Dataset, tasks: int, seed: int) -> tuple[Experience, ...]:
    """Class-incremental, after one task more: one image of each of two classes, as a newcomer's first try may be.

    The other images of those two come with the rest of their task.
    """
    first, *others = class_incremental(data, tasks, seed)
    tried = list(dict.fromkeys(first.train.names))[:TRIED]
    shown = [first.train.names.index(name) for name in tried]
    rest = [row for row in range(len(first.train.names)) if row not in shown]
    judged = [row for row, name in enumerate(first.test.names) if name in tried]
    trial = Experience("t00", first.train.pick(shown), first.test.pick(judged))
    return trial, replace(first, train=first.train.pick(rest)), *others


def experience(number: int, train: Sequence[Subset], test: Sequence[Subset]) -> Experience:
    """A task of several subsets."""
    return Experience(f"t{number:02}", reduce(add, train), reduce(add, test))


def renamed(subset: Subset, name: str) -> Subset:
    """The same images under another name."""
    return replace(subset, names=(name,) * len(subset.rows))


SCENARIOS = {
    "class": class_incremental,
    "domain": domain_incremental,
    "blurry": blurred,
    "online": class_incremental,
    "trial": after_trial,
    "single": class_incremental,
}
"""`online` is class-incremental in a single pass, `single` a class at a time: see `protocols`."""
