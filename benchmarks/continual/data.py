"""Images to learn and to be judged on, by class.

Training takes the first images of each class. Judgement takes the first test images, or, for a search of
hyper-parameters (`split="validation"`), training images that follow those learned: never a test image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.preprocess import decode

MAX_PIXELS = 50_000_000
SUFFIXES = frozenset({".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".webp"})
"""As in `hippotune.image_files`, which cannot be imported where only torch and timm are."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Encoded images. labels: [n], each image's index into `classes`.  read: one image's bytes."""

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    read: Callable[[int], bytes]

    def of_class(self, label: int) -> NDArray[np.int64]:
        """Rows of one class, in the order they are stored."""
        return np.flatnonzero(self.labels == label)


@dataclass(frozen=True, slots=True)
class Subset:
    """Some images of a source. rows: into it.  names: [n], what each is called here; a scenario may rename."""

    source: Encoded
    rows: tuple[int, ...]
    names: tuple[str, ...]

    def __add__(self, other: Subset) -> Subset:
        if self.source is not other.source:
            raise ValueError(f"{self.source.name} and {other.source.name} are different sources")
        return Subset(self.source, self.rows + other.rows, self.names + other.names)

    def pick(self, places: Sequence[int]) -> Subset:
        """Some of these images, in the order given."""
        return Subset(self.source, tuple(self.rows[i] for i in places), tuple(self.names[i] for i in places))

    def pixels(self, px: int) -> Tensor:
        """[n, 3, px, px] uint8, decoded as the service decodes."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            decoded = list(pool.map(lambda row: decode(self.source.read(row), px, MAX_PIXELS), self.rows))
        return torch.from_numpy(np.stack(decoded))


def together(subsets: Sequence[Subset]) -> Subset:
    """One subset of all the images. Raises ValueError for images of different sources."""
    return sum(subsets[1:], subsets[0])


@dataclass(frozen=True, slots=True)
class Dataset:
    """What may be learned and what judges it, a subset for each class, in the order of `classes`."""

    classes: tuple[str, ...]
    train: tuple[Subset, ...]
    test: tuple[Subset, ...]


def load(data: str, folder: Path) -> tuple[Encoded, Encoded]:
    """Training and test source of `cifar100`, `cub100` (archives in `folder`) or `imagefolder:DIR`.

    Raises ValueError for another name and FileNotFoundError for missing data.
    """
    if data.startswith("imagefolder:"):
        return load_folder(Path(data.removeprefix("imagefolder:")))
    if data not in ("cifar100", "cub100"):
        raise ValueError(f"data is {data!r}; it must be cifar100, cub100 or imagefolder:DIR")
    return load_archive(folder / f"{data}_train_webp.npz"), load_archive(folder / f"{data}_test_webp.npz")


def load_archive(path: Path) -> Encoded:
    """An npz of encoded images end to end: `blob`, `offsets` (n + 1), `label` (n), `classes`."""
    with np.load(path) as archive:
        blob, offsets, labels, classes = (archive[key] for key in ("blob", "offsets", "label", "classes"))
    names = tuple(str(name) for name in classes)
    return Encoded(
        path.stem, names, labels.astype(np.int64), lambda row: blob[offsets[row] : offsets[row + 1]].tobytes()
    )


def load_folder(folder: Path) -> tuple[Encoded, Encoded]:
    """`folder/train/label/*` and `folder/test/label/*`, images by name. Both must hold the same labels."""
    train, test = (read_folder(folder / part) for part in ("train", "test"))
    if train.classes != test.classes:
        raise ValueError(f"{folder}/train and {folder}/test hold different labels")
    return train, test


def read_folder(folder: Path) -> Encoded:
    """One ImageFolder tree. Raises FileNotFoundError when it holds no images."""
    paths = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"no images in {folder}/*/")
    classes = tuple(sorted({path.parent.name for path in paths}))
    labels = np.array([classes.index(path.parent.name) for path in paths])
    return Encoded(folder.name, classes, labels, lambda row: paths[row].read_bytes())


def choose(
    train: Encoded, test: Encoded, train_per_class: int | None, test_per_class: int | None, split: str
) -> Dataset:
    """Which images of each class are learned and which judge. None takes all there are.

    Under `validation` the judges are training images behind those learned; where all would be learned, the last
    tenth of a class (or `test_per_class` of it) is kept back. Raises ValueError when a class has too few.
    """
    learned, judges = [], []
    for index, name in enumerate(train.classes):
        rows = train.of_class(index)
        if split == "test":
            mine, theirs, source = rows[:train_per_class], test.of_class(index)[:test_per_class], test
        elif split == "validation":
            count = len(rows) // 10 if test_per_class is None else test_per_class
            end = len(rows) - count if train_per_class is None else train_per_class
            mine, theirs, source = rows[:end], rows[end : end + count], train
        else:
            raise ValueError(f"split is {split!r}; it must be test or validation")
        if not (len(mine) and len(theirs)):
            raise ValueError(f"class {name} has too few images: {len(mine)} to learn, {len(theirs)} to judge")
        learned.append(subset(train, mine, name))
        judges.append(subset(source, theirs, name))
    return Dataset(train.classes, tuple(learned), tuple(judges))


def subset(source: Encoded, rows: NDArray[np.int64], name: str) -> Subset:
    """Images of one name."""
    return Subset(source, tuple(rows.tolist()), (name,) * len(rows))
