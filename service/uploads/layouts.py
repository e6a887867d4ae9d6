"""How an archive says which label an image has: by its folder (ImageFolder), or by a file beside it (WebDataset)."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import orjson

from service.http.problems import Problem, refused
from service.uploads.images import Upload

LAYOUT = "be laid out as label/image.jpg, or as name.jpg with its label in name.cls or name.json"
IMAGES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
LABELS = (".cls", ".json")
LABEL_KEYS = ("label", "class", "class_name", "cls")
MAX_LABEL_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive: its name, its size unpacked, and how to read it, which may raise Problem."""

    name: str
    size: int
    read: Callable[[], bytes]


NOTES = (".txt", ".csv", ".tsv", ".md", ".json", ".xml", ".yaml", ".yml")
"""What data sets carry beside their images. Left out, unlike other files: those may be images in another format."""


def labelled(members: Sequence[Member]) -> list[Upload]:
    """The images of an archive with their labels. Raises Problem.

    A `.cls`, or a `.json` beside an image of its name at the top, makes it a WebDataset; any other has folders.
    """
    images = {key for key, suffix in (_split(member.name) for member in members) if suffix in IMAGES}
    if any(
        _is_cls(member.name) or (_shard_json(member.name) and _split(member.name)[0] in images)
        for member in members
    ):
        return webdataset(members)
    kept = (member for member in members if _split(member.name)[1] not in NOTES)
    return [Upload(member.name, folder_of(member.name), member.read) for member in kept]


def folder_of(name: str) -> str:
    """The label in `label/image.jpg`: the innermost folder, as most archives have another around. Raises Problem."""
    path = PurePosixPath(name)
    if len(path.parts) < 2:
        raise refused("name in the archive", name, f"{LAYOUT}: one folder a label, images inside")
    return path.parts[-2]


def webdataset(members: Sequence[Member]) -> list[Upload]:
    """Files whose names are the same up to the first dot are one sample; what is neither image nor label is left out.

    The layout of https://github.com/webdataset/webdataset. Raises Problem for an image or a label alone, and for a
    second image of a sample, since nothing says which of the two the label is of.
    """
    images: dict[str, Member] = {}
    labels: dict[str, Member] = {}
    for member in members:
        key, suffix = _split(member.name)
        if suffix in IMAGES:
            if images.setdefault(key, member).name != member.name:
                allowed = f"be the only image of its sample, beside {images[key].name!r}"
                raise refused("name in the archive", member.name, allowed)
            images[key] = member  # a tar may hold a file twice; the later counts
        elif suffix in LABELS and (suffix == ".cls" or key not in labels):
            labels[key] = member
    if alone := next((member for key, member in images.items() if key not in labels), None):
        raise refused("name in the archive", alone.name, "have its label beside it, in a .cls or .json")
    if alone := next((member for key, member in labels.items() if key not in images), None):
        raise refused("name in the archive", alone.name, "have its image beside it")
    return [Upload(image.name, label_in(labels[key]), image.read) for key, image in images.items()]


def label_in(member: Member) -> str:
    """What a label file says: the text of a .cls, one value of a .json object. Raises Problem."""
    if member.size > MAX_LABEL_BYTES:
        raise refused(member.name, f"{member.size} bytes", f"have at most {MAX_LABEL_BYTES} bytes", 413)
    data = member.read().removeprefix(BOM_UTF8)  # Windows begins a text with it
    if _is_cls(member.name):
        try:
            return data.decode().strip()
        except UnicodeDecodeError:
            raise Problem(422, f"{member.name!r} is no UTF-8 text") from None
    try:
        found: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Problem(422, f"{member.name!r} is no JSON") from None
    if isinstance(found, dict):
        found = next((found[key] for key in LABEL_KEYS if key in found), None)
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise refused(member.name, "no label", f"name its label as {', '.join(LABEL_KEYS)}")
    return str(found)


def _split(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return f"{folder}/{stem}", f".{suffix.rpartition('.')[2]}".lower() if dot else ""


def _is_cls(name: str) -> bool:
    return _split(name)[1] == ".cls"


def _shard_json(name: str) -> bool:
    """A .json at the top of an archive; those beside images in label folders are somebody's notes."""
    return "/" not in name.removeprefix("./") and _split(name)[1] == ".json"
