"""Request bodies, read no further and waited for no longer than allowed."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from time import perf_counter
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.http.lifecycle import DRAINING_S, Lifecycle
from service.http.problems import DiskProblem, Problem, invalid, refused

Read = TypeVar("Read", bound=BaseModel)

IN_MEMORY_BYTES = 4 * 1024 * 1024
SLOWEST = 4096
"""Bytes a second."""
MOST_PARAMETERS = 16_384
"""Bytes of a body that holds a few words, or should hold nothing."""
STRAY = (b"", b"{}", b"null")
"""Bodies that say nothing, as some clients send them with every POST."""


BINARY = {"schema": {"type": "string", "format": "binary"}}
"""What the API document says of a body that is a file."""


class Bodies:
    """The bytes of all bodies in memory, at most `most`. From the event loop only."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """What is taken in the block is given back at its end."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            self.held -= hold.taken


@dataclass(slots=True)
class Hold:
    """One request's share of `bodies`, in bytes. It grows with what came, not with what was announced."""

    bodies: Bodies
    taken: int = 0

    def take(self, size: int) -> None:
        """Raises Problem 429 when all bodies together become too large."""
        if self.bodies.held + size > self.bodies.most:
            raise Problem(429, f"the requests being answered hold {self.bodies.held} bytes already")
        self.bodies.held += size
        self.taken += size


def media_type(request: Request) -> str:
    """The Content-Type without its parameters, in lower case; "" when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def declared_bytes(request: Request) -> int:
    """What the request says of its body's size; 0 if nothing."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdecimal() else 0


async def stream_body(
    request: Request, limit: int, idle_s: float, hold: Hold | None = None
) -> AsyncGenerator[bytes]:
    """The body as it comes, counted in `hold` if it is to stay in memory.

    Raises Problem 413 past `limit` bytes, 415 for a body that was compressed on the way, and ClientDisconnect. Raises
    what `Patience` raises of a body that comes too slowly, and Problem 429 where `hold` does.
    """
    encoding = request.headers.get("content-encoding", "")
    if encoding.strip().lower() not in ("", "identity"):
        # Of no use to images, and expanding what anybody sends would hold up the event loop.
        problem = refused("Content-Encoding", encoding, "be identity, or left out", 415)
        problem.headers = {"Accept-Encoding": "identity"}
        raise problem
    if (total := declared_bytes(request)) > limit:
        raise refused("body", f"{total} bytes", f"have at most {limit} bytes", 413)
    total, more, patience = 0, True, Patience(idle_s, request.app.state.lifecycle)
    while more:
        message = await patience.next_of(request)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        total += len(chunk)
        if total > limit:
            raise refused("body", f"more than {limit} bytes", f"have at most {limit} bytes", 413)
        if more:
            patience.check_pace(total)
        if chunk:
            if hold is not None:
                hold.take(len(chunk))
            yield chunk


class Patience:
    """How long a body is waited for.

    At most `idle_s` seconds of silence and, in all, as many and one more for every `SLOWEST` bytes, so that nobody
    holds a place by trickling. Once the server shuts down, `DRAINING_S` takes the place of `idle_s`: it must not wait
    for a body that may never come, but one that keeps coming is read to its end.
    """

    def __init__(self, idle_s: float, lifecycle: Lifecycle) -> None:
        self._idle_s, self._lifecycle = idle_s, lifecycle
        self._began = perf_counter()

    async def next_of(self, request: Request) -> Message:
        """The next part of the body. Raises Problem 408, and 503 while draining."""
        silent_s = 0.0
        while silent_s < self._idle_s:
            wait_s = min(DRAINING_S, self._idle_s - silent_s)  # a shutdown may begin meanwhile
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    return await request.receive()
            silent_s += wait_s
            if self._lifecycle.draining:
                break
        raise self._too_slow(f"no byte of the body came for {silent_s:g} s")

    def check_pace(self, total: int) -> None:
        """Raise Problem 408, and 503 while draining, unless `total` bytes were fast enough."""
        idle_s = min(DRAINING_S, self._idle_s) if self._lifecycle.draining else self._idle_s
        if perf_counter() - self._began > idle_s + total / SLOWEST:
            raise self._too_slow(f"the body came slower than {SLOWEST} bytes a second")

    def _too_slow(self, told: str) -> Problem:
        if self._lifecycle.draining:
            return Problem(503, f"the server is shutting down, and {told}")
        return Problem(408, told)


async def read_body(request: Request, limit: int, idle_s: float, hold: Hold | None = None) -> bytes:
    """The whole body. Raises what `stream_body` raises."""
    return b"".join([chunk async for chunk in stream_body(request, limit, idle_s, hold)])


async def read_json(request: Request, kind: type[Read], idle_s: float) -> Read:
    """The whole body as a small record of some kind. Raises Problem, and what `read_body` raises."""
    body = await read_body(request, MOST_PARAMETERS, idle_s)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """What the API document says of a body that `read_json` reads."""
    content = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def refuse_body(request: Request, idle_s: float) -> None:
    """For a route whose parameters stand in the query: in a body they would be passed over in silence.

    Raises Problem, and what `read_body` raises.
    """
    body = (await read_body(request, MOST_PARAMETERS, idle_s)).strip()
    if body not in STRAY:
        found = body.decode(errors="replace")
        raise refused("body", found, "be left out: parameters stand in the query")


@asynccontextmanager
async def spool_body(request: Request, limit: int, idle_s: float) -> AsyncIterator[UploadFile]:
    """The body as a file, on disk when large, until the block ends. Raises what `stream_body` raises."""
    with SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as spool:
        file = UploadFile(spool, size=0)  # type: ignore[arg-type]
        with buffering():
            async for chunk in stream_body(request, limit, idle_s):
                await file.write(chunk)
        await file.seek(0)
        yield file


@contextmanager
def buffering() -> Iterator[None]:
    """A full temporary disk is the server's trouble, and passing: Problem 503."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise DiskProblem(503, f"cannot buffer the body: {error.strerror}") from error
        raise
