"""What is taught: encoded images in tasks of new classes, and held-out images that are never trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hippotune.encoding import png
from hippotune.image_files import first_of_each, labelled_files

SEED = 0
HELD_OUT = 0.25
"""Share of a class kept back for testing where the data has no test part of its own."""


@dataclass(frozen=True, slots=True)
class Example:
    """An encoded image and its label."""

    image: bytes
    label: str


@dataclass(frozen=True, slots=True)
class DemoTask:
    """Some classes: the images to learn and others to be asked about."""

    name: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the data to use.

    tasks: tasks the classes are dealt into, in order of their names.
    train, test: most images a class; None takes all.
    """

    tasks: int
    train: int | None = None
    test: int | None = None


def digits(limits: Limits) -> list[DemoTask]:
    """The 1,797 handwritten digits that come with scikit-learn, 8 x 8 grey levels, as PNG."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images * (255 / 16)).round().astype(np.uint8)
    labelled = zip(images, bunch.target, strict=True)
    examples = [Example(png(Image.fromarray(image)), str(label)) for image, label in labelled]
    return _deal(*_hold_out(examples), limits)


def folder(root: Path, limits: Limits) -> list[DemoTask]:
    """An ImageFolder tree; `root/train` and `root/test` (or `val`) as they are, else a part is held out.

    Raises ValueError when it holds fewer than two images of a class, or fewer classes than tasks.
    """
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if test is not None and (root / "train").is_dir():
        return _deal(_read(root / "train"), _read(test), limits)
    return _deal(*_hold_out(_read(root)), limits)


def cifar100(cache: Path, limits: Limits) -> list[DemoTask]:
    """CIFAR-100 with its own test part, downloaded by torchvision into `cache` once."""
    from torchvision.datasets import CIFAR100

    parts = []
    for train in (True, False):
        part = CIFAR100(str(cache), train=train, download=True)
        # Before encoding, which takes the longest.
        chosen = first_of_each(part.targets, limits.train if train else limits.test)
        parts.append(
            [Example(png(Image.fromarray(part.data[i])), part.classes[part.targets[i]]) for i in chosen]
        )
    return _deal(parts[0], parts[1], limits)


def _read(root: Path) -> list[Example]:
    return [Example(path.read_bytes(), label) for path, label in labelled_files(root)]


def _hold_out(examples: Iterable[Example]) -> tuple[list[Example], list[Example]]:
    """(train, test): the same share of every class, drawn with a fixed seed."""
    random = np.random.default_rng(SEED)
    train, test = [], []
    for label, group in _by_label(examples).items():
        if len(group) < 2:
            raise ValueError(
                f"class {label!r} has one image; at least two are needed, one of them to test with"
            )
        held = max(1, round(HELD_OUT * len(group)))
        order = random.permutation(len(group))
        test += [group[i] for i in order[:held]]
        train += [group[i] for i in order[held:]]
    return train, test


def _deal(train: Sequence[Example], test: Sequence[Example], limits: Limits) -> list[DemoTask]:
    """The classes dealt into `limits.tasks` tasks as evenly as they go."""
    to_learn, to_ask = _by_label(train), _by_label(test)
    labels = sorted(to_learn)
    if missing := sorted(set(labels) ^ set(to_ask)):
        raise ValueError(f"classes {missing[:5]} are not in both parts, training and test")
    if not 1 <= limits.tasks <= len(labels):
        raise ValueError(f"tasks is {limits.tasks}; it must lie in 1..{len(labels)}, the number of classes")
    return [
        DemoTask(
            name=" ".join(chosen) if len(chosen) < 5 else f"{chosen[0]} to {chosen[-1]}",
            train=tuple(example for label in chosen for example in to_learn[label][: limits.train]),
            test=tuple(example for label in chosen for example in to_ask[label][: limits.test]),
        )
        for chosen in (list(part) for part in np.array_split(np.array(labels, dtype=object), limits.tasks))
    ]


def _by_label(examples: Iterable[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.label].append(example)
    return groups
