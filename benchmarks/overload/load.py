"""A load generator cheap enough to offer ten times what a server can do from the other core."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np

BROKEN = 0
"""Status of a request whose connection broke or never came about."""


@dataclass(slots=True)
class Told:
    """What came back: seconds by status, and how many refusals said when to come back."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    told_when: int = 0
    took_s: float = 0.0

    def note(self, status: int, seconds: float, when: bool) -> None:
        self.seconds.setdefault(status, []).append(seconds)
        self.told_when += when

    @property
    def counts(self) -> Counter[int]:
        return Counter({status: len(seconds) for status, seconds in sorted(self.seconds.items())})

    def p99_ms(self, status: int = 200) -> float:
        return (
            1000 * float(np.percentile(self.seconds[status], 99)) if status in self.seconds else float("nan")
        )

    def per_second(self, status: int = 200) -> float:
        return len(self.seconds.get(status, ())) / self.took_s


class Caller:
    """One connection at a time, kept alive; a new one when it broke."""

    def __init__(self, address: str, request: bytes) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._request = request
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, told: Told) -> int:
        """Send the request, note what came. Returns its status."""
        began = perf_counter()
        try:
            if self._streams is None or self._streams[0].at_eof():  # the server closes what is idle for long
                await self.close()
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            await self.close()
            told.note(BROKEN, perf_counter() - began, False)
            return BROKEN
        status = int(head[9:12])
        told.note(status, perf_counter() - began, b"retry-after: " in head)
        if b"connection: close" in head:
            await self.close()
        return status

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def post(path: str, body: bytes, key: str) -> bytes:
    """The bytes of a request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n\r\n".encode()


async def closed_loop(callers: Sequence[Caller], seconds: float) -> Told:
    """Each caller sends its next request when the last was answered."""
    told, began = Told(), perf_counter()

    async def run(caller: Caller) -> None:
        while perf_counter() - began < seconds:
            await caller.ask(told)

    await asyncio.gather(*map(run, callers))
    told.took_s = perf_counter() - began
    return told


async def open_loop(address: str, request: bytes, rate: float, seconds: float) -> Told:
    """`rate` requests a second, whatever becomes of those before; connections are used again when free."""
    told = Told()
    free: list[Caller] = []
    under_way: set[asyncio.Task[None]] = set()
    began = perf_counter()

    async def one() -> None:
        caller = free.pop() if free else Caller(address, request)
        await caller.ask(told)
        free.append(caller)

    sent = 0
    while (now := perf_counter() - began) < seconds:
        while sent < now * rate:
            task = asyncio.ensure_future(one())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            sent += 1
        await asyncio.sleep(0.002)
    told.took_s = perf_counter() - began  # what is answered afterwards was accepted within it all the same
    await asyncio.gather(*under_way)
    for caller in free:
        await caller.close()
    return told
