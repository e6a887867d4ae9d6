"""Labelled images as archives of `label/image`, cut into tasks of a size, and what each is called there."""

from __future__ import annotations

import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from hippotune.image_files import (
    JUNK,
    SUFFIXES,
    UNKNOWN,
    as_text,
    file_name,
    first_of_each,
    labelled_files,
    media_type,
)

MOST_UNFIT = 100
"""Images that cannot be sent, of a task, after which no more are looked for."""
MOST_NAMED = 20
"""Of these, how many a message names."""


class Unfit(ValueError):
    """Images that cannot be sent; the message names them and says why."""


def _no_file(_row: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Source:
    """labels: one for each row of a set.  load: the encoded bytes (JPEG, PNG or WebP) of a row; raises Unfit, without
    its name.

    file: where the image of a row is, if it has a file of its own.  chosen: the rows to be taught; None for all.
    """

    name: str
    labels: Sequence[str]
    load: Callable[[int], bytes]
    file: Callable[[int], PurePath | None] = _no_file
    chosen: Sequence[int] | None = None

    @property
    def rows(self) -> Sequence[int]:
        """Those to be taught, by their number in the set, from 0."""
        return range(len(self.labels)) if self.chosen is None else self.chosen

    def only(self, per_class: int) -> Source:
        """The first `per_class` images of each label."""
        return replace(self, chosen=first_of_each(self.labels, per_class))

    def image(self, row: int) -> bytes:
        """The encoded bytes of a row. Raises Unfit, which names its file, or the row."""
        try:
            return self.load(row)
        except Unfit as error:
            raise Unfit(f"{self.file(row) or f'row {row} of {self.name}'} {error}") from None

    def called(self, row: int) -> str:
        """What it is called in an archive: a number, as names may repeat, and its file's name."""
        file = self.file(row)
        return f"row-{row:07d}" if file is None else f"{row:07d}-{file_name(file)}"


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """The most images and bytes of one task, and bytes of its labels, each counted once."""

    images: int = sys.maxsize
    size: int = sys.maxsize
    labels: int = sys.maxsize


USUAL = TaskLimits(20_000, 500 << 20, 256 << 10)
"""What a server takes by default, in bytes somewhat less."""


@contextmanager
def as_archive(source: Path) -> Iterator[tuple[Path, str]]:
    """(file, media type) to upload for a folder or an archive; a folder's zip lives as long as the context.

    Raises FileNotFoundError, or ValueError when it is neither.
    """
    if source.is_dir():
        files = labelled_files(source)
        labels = [label for _, label in files]
        folder = Source(
            source.name, labels, lambda row: files[row][0].read_bytes(), lambda row: files[row][0]
        )
        with packed(folder, TaskLimits()) as archives:
            archive, _ = next(archives)
            yield archive, "application/zip"
    elif not source.exists():
        raise FileNotFoundError(f"no such folder or archive: {source}")
    elif zipfile.is_zipfile(source):
        yield source, "application/zip"
    elif tarfile.is_tarfile(source):
        yield source, "application/x-tar"
    else:
        tables = "tables, which `hippotune submit` takes, end in .csv or .parquet"
        raise ValueError(f"{source} is neither a folder, a zip nor a tar; {tables}")


@contextmanager
def packed(
    source: Source, limits: TaskLimits, left_out: list[str] | None = None
) -> Iterator[Iterator[tuple[Path, int]]]:
    """A source as zip archives of `label/image`, each within the limits, and how many images each holds.

    Classes stay together where they fit. One archive is on disk at a time: use it before asking for the next.

    left_out: takes what is wrong with each image that cannot be sent; the others are sent. Without it the first
    archive that would hold one raises Unfit, for all of its images.
    """
    with tempfile.TemporaryDirectory(prefix="hippotune-") as folder:
        yield _pack(source, limits, Path(folder) / "task.zip", left_out)


class _Archive:
    """A task while it is written. Images are compressed already, so the zip only stores them."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._label: str | None = None
        self.images = self.size = self.labels = 0

    def has_room(self, label: str, images: int, size: int, limits: TaskLimits) -> bool:
        """Whether so many images of a label fit, the first of which has so many bytes."""
        return (
            self.images + images <= limits.images
            and self.size + size <= limits.size
            and self.labels + self._new(label) <= limits.labels
        )

    def add(self, label: str, name: str, image: bytes) -> None:
        """An image; those of a label come one after another."""
        inside = f"{label}/{name}"
        self._zip.writestr(inside, image)
        self.labels += self._new(label)
        self._label = label
        self.images += 1
        self.size += len(image) + 256 + 2 * len(inside.encode())  # what a zip says of each, its name twice

    def _new(self, label: str) -> int:
        """Bytes that a label adds to those there are."""
        return 0 if label == self._label else len(label.encode())

    def close(self) -> None:
        self._zip.close()


def _pack(
    source: Source, limits: TaskLimits, path: Path, left_out: list[str] | None
) -> Iterator[tuple[Path, int]]:
    unfit: list[str] = [] if left_out is None else left_out
    sizes = Counter(source.labels[row] for row in source.rows)
    archive, last = _Archive(path), None
    try:
        for row in sorted(source.rows, key=lambda row: source.labels[row]):
            label = source.labels[row]
            check_label(label)
            try:
                image = source.image(row)
            except Unfit as error:
                unfit.append(str(error))
                sizes[label] -= 1
                if left_out is None and len(unfit) == MOST_UNFIT:
                    break
                continue
            needed = sizes[label] if label != last and sizes[label] <= limits.images else 1
            if archive.images and not archive.has_room(label, needed, len(image), limits):
                if unfit and left_out is None:
                    break
                archive.close()
                yield path, archive.images
                archive = _Archive(path)
            archive.add(label, _suffixed(source.called(row), image), image)
            last = label
    finally:
        archive.close()
    if unfit and left_out is None:
        ended = "; others were not looked at" if len(unfit) == MOST_UNFIT else ""
        raise Unfit(listed(unfit) + ended)
    if not archive.images:
        raise ValueError(f"none of the {len(source.rows)} images of {source.name} can be sent")
    yield path, archive.images


def _suffixed(name: str, image: bytes) -> str:
    """A file's name with a suffix that is true of its bytes, as far as it is known which."""
    kind = media_type(image)
    if kind == UNKNOWN or SUFFIXES.get(PurePath(name).suffix.lower()) == kind:
        return name
    return f"{name}.{kind.removeprefix('image/')}"


def listed(unfit: Sequence[str], most: int = MOST_NAMED) -> str:
    """What is wrong with each image, of the first `most`."""
    more = [f"and {len(unfit) - most} more"] if len(unfit) > most else []
    return "; ".join([*unfit[:most], *more])


def check_label(label: str) -> None:
    """Raise ValueError for what cannot be a folder's name in an archive."""
    junk = label.startswith(".") or label.lower() in JUNK
    if not label or set(label) & set("/\\\0") or ":" in label[:2] or junk or as_text(label) != label:
        raise ValueError(
            f"label {label!r} cannot name a folder; rename it, or submit from Python, image by image"
        )
