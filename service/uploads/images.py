"""Labelled images as they come in over HTTP, paired and with their labels as they are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.http.problems import refused
from service.uploads.text import check_text

MAX_LABELS_BYTES = 262_144
"""Most bytes of a task's labels together, each counted once: every answer about the task lists them, and Redis does."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One labelled image that can be read, more than once, while its request lasts.

    name: what the client calls it, for error messages only.  read: the encoded bytes; raises Problem.
    """

    name: str
    label: str
    read: Callable[[], bytes]


def pair(files: Sequence[tuple[str, Callable[[], bytes]]], labels: Sequence[str]) -> list[Upload]:
    """Files and labels that came in the same order. Raises Problem when they do not match."""
    if not files:
        raise refused("files", None, "hold at least one image")
    if len(labels) == 1 and is_list(labels[0]):
        raise refused("labels", labels[0], "come once for each file, as plain text; this is a list in JSON")
    if len(files) != len(labels):
        raise refused(
            "labels", f"{len(labels)} labels", f"be {len(files)}, one for each file in the same order"
        )
    return [Upload(name, label, read) for (name, read), label in zip(files, labels, strict=True)]


def is_list(label: str) -> bool:
    """Whether a client wrote all its labels as one JSON text, which would be taught as the name of a class."""
    try:
        return isinstance(json.loads(label), list)
    except (ValueError, RecursionError):
        return False


def cleaned(uploads: Sequence[Upload]) -> list[Upload]:
    """The uploads with their labels as they are kept. Raises Problem for one that is none."""
    labels = [check_text(f"labels[{index}]", upload.label) for index, upload in enumerate(uploads)]
    check_together(labels)
    return [Upload(upload.name, label, upload.read) for upload, label in zip(uploads, labels, strict=True)]


def check_together(labels: Sequence[str]) -> None:
    """Raise Problem when the labels of a task are too long in sum."""
    size = sum(len(label.encode()) for label in set(labels))
    if size > MAX_LABELS_BYTES:
        found = f"{len(set(labels))} labels of {size} bytes"
        raise refused(
            "labels", found, f"take at most {MAX_LABELS_BYTES} bytes together; make several tasks of it"
        )


def default_name(labels: Sequence[str]) -> str:
    """What a task is called that was given no name: its labels, cut to a readable length."""
    name = ", ".join(sorted(set(labels)))
    return name if len(name) <= 80 else name[:79] + "…"
