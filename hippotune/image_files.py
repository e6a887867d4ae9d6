"""Images on disk, and folders of them in the ImageFolder layout: `label/image.jpg`."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

SUFFIXES = {
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".jpe": "image/jpeg",
    ".jfif": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
"""Files taken for images, and what they say they are; anything else in a folder is left out, and told."""
UNKNOWN = "application/octet-stream"
JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
"""What desktops leave in folders, beside what they hide by a dot."""
NAMED = 5
"""How many suffixes of files left out a message names."""
MOST_NAME = 100
"""Characters of a file's name that are sent; its end tells it from others."""

Image = bytes | str | os.PathLike[str]
"""An encoded image: its bytes, or the path of its file."""


class FilesLeftOut(UserWarning):
    """A folder held files that are not taught; the message tells how many of which suffixes."""


def image_bytes(image: Image) -> bytes:
    """The encoded bytes of an image given either way. Raises OSError when its file cannot be read."""
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def media_type(image: bytes) -> str:
    """The media type its first bytes announce; UNKNOWN for what no server takes."""
    if image.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "image/webp"
    return UNKNOWN


def file_name(path: PurePath) -> str:
    """A file's own name as archives and forms can hold it, and servers tell it when they refuse the image."""
    return as_text(path.name).replace("\\", "_")[-MOST_NAME:]


def part_name(image: Image, place: int) -> str:
    """What an image is called in a form: as its file, or bytes by their place, from 0 as in what servers answer."""
    return f"{place}" if isinstance(image, bytes) else file_name(Path(image))


def as_text(name: str) -> str:
    """A file's name without its bytes that are no text, which nothing can send."""
    return name.encode(errors="replace").decode()


def labelled_files(folder: Path) -> list[tuple[Path, str]]:
    """Every image below `folder` with the name of the folder it lies in, in a stable order; no hidden ones.

    Links to folders are followed; other files are left out with the warning FilesLeftOut. Raises ValueError when
    there is none, or when an image lies outside a label's folder, and OSError when a folder cannot be read.
    """
    found, others = [], Counter[str]()
    for path in _below(folder):
        if not path.is_file():
            others["link to nothing" if path.is_symlink() else "no plain file"] += 1
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            others[path.suffix.lower() or "without suffix"] += 1
    taught = ", ".join(SUFFIXES)
    if not found:
        there = f"; there is {_told(others)}" if others else ""
        raise ValueError(f"{folder} holds no image; expected {folder}/LABEL/IMAGE with {taught}{there}")
    loose = next((path for path in found if path.parent == folder), None)
    if loose is not None:
        raise ValueError(f"{loose} has no label; expected {folder}/LABEL/{loose.name}")
    if others:
        told = f"{folder}: left out {_told(others)}; images are {taught}"
        warnings.warn(told, FilesLeftOut, stacklevel=2)
    return [(path, path.parent.name) for path in found]


def _told(others: Counter[str]) -> str:
    """ "12 .bmp, 3 .heic", the most frequent first."""
    named = others.most_common(NAMED)
    rest = others.total() - sum(count for _, count in named)
    return ", ".join([f"{count} {kind}" for kind, count in named] + [f"{rest} others"] * (rest > 0))


def _below(folder: Path, within: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All that is no folder, sorted. within: the folders around this one, so that links in a circle end.

    Desktops and tools keep files of their own, named like images, under names that begin with a dot.
    """
    within |= {folder.resolve()}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() in JUNK:
            continue
        if not path.is_dir():
            yield path
        elif path.resolve() not in within:
            yield from _below(path, within)


def first_of_each(labels: Iterable[object], most: int | None) -> list[int]:
    """Places of the first `most` of each label, in order; None takes all."""
    seen: Counter[object] = Counter()
    places = []
    for place, label in enumerate(labels):
        seen[label] += 1
        if most is None or seen[label] <= most:
            places.append(place)
    return places
