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
from service.problems import FieldError, Problem, refused, shorten

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
MOST_NAME = 80
"""Characters of an image's name in errors; with its place before it, it is not cut once more."""
MOST_LISTED, MOST_TOLD = 100, 5
"""Images that an answer lists as unfit, and those of them that its detail tells; no more are looked for."""


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


def cleaned(uploads: Sequence[Upload]) -> list[Upload]:
    """The uploads with their labels as they are kept. Raises Problem for one that is none."""
    labels = [check_text(f"labels[{index}]", upload.label) for index, upload in enumerate(uploads)]
    check_together(labels)
    return [Upload(upload.name, label, upload.read) for upload, label in zip(uploads, labels, strict=True)]


def check(
    uploads: Sequence[Upload], px: int, config: ServiceConfig, lifecycle: Lifecycle, decoders: Executor
) -> list[Upload]:
    """Decode every image once, one after the other, and give those back that can be learned.

    decoders: where the images of all requests are decoded: each may take hundreds of megabytes meanwhile.

    Raises Problem that lists the images that cannot be learned, `MOST_LISTED` at most, and 413 when all take too long;
    and what `while_open` raises.
    """
    checked: list[Upload] = []
    unfit: list[tuple[str, Problem]] = []
    began, most, decoding = thread_time(), config.max_task_check_s, 0.0
    for index, upload in enumerate(while_open(uploads, lifecycle)):
        if len(unfit) == MOST_LISTED:
            break
        field = f"files[{index}] {short(upload.name)!r}"
        size, seconds, problem = look_at(upload, field, px, config, decoders)
        most += size / MIB
        decoding += seconds
        took = thread_time() - began + decoding  # not by the clock: others may keep the processors busy
        if took > most:
            found = f"{index + 1} images that took {took:.1f} s to look at"
            limit = f"take at most {config.max_task_check_s:g} s and one for each MiB; send smaller images, or fewer"
            raise refused("files", found, limit, 413)
        if problem is None:
            checked.append(upload)
        else:
            unfit.append((field, problem))
    if unfit:
        raise unlearnable(unfit, len(uploads), all_seen=len(unfit) + len(checked) == len(uploads))
    return checked


def short(name: str) -> str:
    """A name as errors tell it: the end of a long one, since a folder may have taken up all of its beginning."""
    return name if len(name) <= MOST_NAME else "…" + name[1 - MOST_NAME :]


def look_at(
    upload: Upload, field: str, px: int, config: ServiceConfig, decoders: Executor
) -> tuple[int, float, Problem | None]:
    """An image's bytes, the seconds that decoding took, and why it cannot be learned, if it cannot.

    Raises MemoryError, of which no image is guilty.
    """
    try:
        data = upload.read()
    except Problem as problem:
        return 0, 0.0, bare(problem)
    if len(data) > config.max_image_bytes:
        allowed = f"have at most {config.max_image_bytes} bytes"
        return len(data), 0.0, refused(field, f"{len(data)} bytes", allowed, 413)
    seconds, unfit = decoders.submit(decoded, data, px, config.max_pixels, field).result()
    return len(data), seconds, unfit


def decoded(data: bytes, px: int, max_pixels: int, field: str) -> tuple[float, Problem | None]:
    """Seconds of a processor that decoding takes, and what is wrong with the image. Raises MemoryError."""
    began, unfit = thread_time(), None
    try:
        decode(data, px, max_pixels, field)
    except Problem as problem:
        unfit = bare(problem)
    return thread_time() - began, unfit


def bare(problem: Problem) -> Problem:
    """Without where it was raised, which would keep the image's bytes and pixels for as long as it is listed."""
    return Problem(problem.status, problem.detail, *problem.errors)


def unlearnable(unfit: Sequence[tuple[str, Problem]], images: int, all_seen: bool) -> Problem:
    """One problem of all the images of a task that cannot be learned: (field, what is wrong) each."""
    problems = [problem for _, problem in unfit]
    if len(problems) == 1:
        return problems[0]
    statuses = {problem.status for problem in problems}
    told = "; ".join(problem.detail for problem in problems[:MOST_TOLD])
    more = f"; and {len(problems) - MOST_TOLD} more, see errors" if len(problems) > MOST_TOLD else ""
    count = f"{len(problems)} of {images}" if all_seen else f"at least {len(problems)} of {images}"
    errors = [
        error
        for field, problem in unfit
        # What an archive does not give whole comes with no field of its own.
        for error in problem.errors or (FieldError(field, shorten(problem.detail), "be whole"),)
    ]
    status = statuses.pop() if len(statuses) == 1 else 422
    return Problem(status, f"{count} images cannot be learned: {told}{more}", *errors)


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
