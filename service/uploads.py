"""Labelled images as they come in over HTTP, and the checks all of them pass before anything is queued."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from math import inf
from time import monotonic, thread_time

from service.config import MIB, ServiceConfig
from service.decode import decode
from service.lifecycle import DRAINING_S, Lifecycle
from service.problems import Problem, refused

MAX_LABEL = 200
MAX_LABELS_BYTES = 262_144
"""Most bytes of a task's labels together, each counted once: every answer about the task lists them, and Redis does."""
TURNING = r"\u202a-\u202e\u2066-\u2069"
"""Marks that turn the order in which text is read: two labels would look the same."""
UNPRINTABLE = rf"\x00-\x1f\x7f-\x9f\u2028\u2029{TURNING}"
INVISIBLE = r"\xad\u061c\u180e\u200b-\u200f\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"
"""Those of Unicode's category Cf that scripts and emoji of today use."""
PRINTABLE = rf"^[^{UNPRINTABLE}]*[^\s{UNPRINTABLE}{INVISIBLE}][^{UNPRINTABLE}]*$"
"""What `check_text` takes, as a pattern for the API document; it trims and normalises besides."""
BYTE_ORDER_MARK = "\ufeff"  # spreadsheets put it before the first cell
TEXT = f"have 1 to {MAX_LABEL} printable characters"


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
    if len(files) != len(labels):
        raise refused(
            "labels", f"{len(labels)} labels", f"be {len(files)}, one for each file in the same order"
        )
    return [Upload(name, label, read) for (name, read), label in zip(files, labels, strict=True)]


def check(
    uploads: Sequence[Upload], px: int, config: ServiceConfig, lifecycle: Lifecycle, decoders: Executor
) -> list[Upload]:
    """Clean every label and decode every image once, one after the other.

    decoders: where the images of all requests are decoded: each may take hundreds of megabytes meanwhile.

    Raises Problem at the first that cannot be learned, and 413 when all take too long; and what `while_open` raises.
    """
    labels = [check_text(f"labels[{index}]", upload.label) for index, upload in enumerate(uploads)]
    check_together(labels)
    checked: list[Upload] = []
    began, most, decoding = thread_time(), config.max_task_check_s, 0.0
    for index, (upload, label) in enumerate(zip(while_open(uploads, lifecycle), labels, strict=True)):
        field = f"files[{index}] {upload.name[:100]!r}"
        data = upload.read()
        if len(data) > config.max_image_bytes:
            raise refused(field, f"{len(data)} bytes", f"have at most {config.max_image_bytes} bytes", 413)
        decoding += decoders.submit(decoding_time, data, px, config.max_pixels, field).result()
        most += len(data) / MIB
        took = thread_time() - began + decoding  # not by the clock: others may keep the processors busy
        if took > most:
            found = f"{index + 1} images that took {took:.1f} s to look at"
            limit = f"take at most {config.max_task_check_s:g} s and one for each MiB; send smaller images, or fewer"
            raise refused("files", found, limit, 413)
        checked.append(Upload(upload.name, label, upload.read))
    return checked


def decoding_time(data: bytes, px: int, max_pixels: int, field: str) -> float:
    """Seconds of a processor that decoding takes. Raises what `decode` does."""
    began = thread_time()
    decode(data, px, max_pixels, field)
    return thread_time() - began


def while_open(uploads: Sequence[Upload], lifecycle: Lifecycle) -> Iterator[Upload]:
    """The uploads, one by one. Raises Problem 503 once the server has been shutting down for `DRAINING_S`: thousands of
    images would take longer than it has."""
    ends = inf
    for upload in uploads:
        if lifecycle.draining:
            ends = min(ends, monotonic() + DRAINING_S)
            if monotonic() >= ends:
                raise Problem(
                    503, "the server is shutting down, and the task has more images than it has time for"
                )
        yield upload


def check_together(labels: Sequence[str]) -> None:
    """Raise Problem when the labels of a task are too long in sum."""
    size = sum(len(label.encode()) for label in set(labels))
    if size > MAX_LABELS_BYTES:
        found = f"{len(set(labels))} labels of {size} bytes"
        raise refused(
            "labels", found, f"take at most {MAX_LABELS_BYTES} bytes together; make several tasks of it"
        )


def check_text(field: str, text: str) -> str:
    """A label or name as people write them: normalised (NFC), trimmed. Raises Problem.

    Characters that nobody sees (Cf) may stand among others, where scripts and emoji need them, but are no label; nor
    may they turn the order in which it is read.
    """
    clean = unicodedata.normalize("NFC", text.removeprefix(BYTE_ORDER_MARK)).strip()
    kinds = {unicodedata.category(char) for char in clean}
    unfit = kinds & {"Cc", "Cs", "Zl", "Zp"} or re.search(f"[{TURNING}]", clean)
    if unfit or kinds <= {"Cf", "Zs"} or len(clean) > MAX_LABEL:
        raise refused(field, text, TEXT)
    return clean


def default_name(labels: Sequence[str]) -> str:
    """What a task is called that was given no name: its labels, cut to a readable length."""
    name = ", ".join(sorted(set(labels)))
    return name if len(name) <= 80 else name[:79] + "…"
