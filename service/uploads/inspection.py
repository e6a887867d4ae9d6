"""Looks at every image of a task before anything of it is queued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from math import inf
from time import monotonic, thread_time

from service.config import MIB, ServiceConfig
from service.http.lifecycle import DRAINING_S, Lifecycle
from service.http.problems import FieldError, Problem, refused, shorten
from service.uploads.decode import decode
from service.uploads.images import Upload

MOST_NAME = 80
"""Characters of an image's name in errors; with its place before it, it is not cut once more."""
MOST_LISTED, MOST_TOLD = 100, 5
"""Images that an answer lists as unfit, and those of them that its detail tells; no more are looked for."""


def inspected(
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
        field = field_of(index, upload.name)
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


def field_of(index: int, name: str) -> str:
    """What errors call a file of a form: its place, and the name it came with."""
    return f"files[{index}] {short(name)!r}"


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
