"""Clients that are slow, silent or leave half a request behind."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

SPARE = 512
"""Open files this process needs besides."""


def affordable(wanted: int) -> int:
    """As many connections as this process may open, after asking for the most."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - SPARE)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(address: str, count: int) -> list[Streams]:
    """Connections, fifty at a time; those that are refused are left out."""
    parts = urlsplit(address)
    streams: list[Streams] = []

    async def one() -> None:
        with suppress(OSError):
            streams.append(await asyncio.open_connection(parts.hostname, parts.port))

    for start in range(0, count, 50):
        await asyncio.gather(*(one() for _ in range(min(50, count - start))))
    return streams


@asynccontextmanager
async def idle(address: str, count: int) -> AsyncIterator[int]:
    """Connections that say nothing, and come back when they are closed, until the block ends. Gives how many."""
    held = await opened(address, count)

    async def again() -> None:
        while True:
            await asyncio.sleep(1.0)
            gone = [streams for streams in held if streams[0].at_eof()]
            held[:] = [streams for streams in held if not streams[0].at_eof()]
            for _, writer in gone:
                writer.close()
            held.extend(await opened(address, len(gone)))

    keeper = asyncio.ensure_future(again())
    try:
        yield len(held)
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        for _, writer in held:
            writer.close()


@asynccontextmanager
async def half_sent(address: str, key: str, count: int) -> AsyncIterator[int]:
    """Half of them stop within the body, half send their head a byte a second."""
    writers = [writer for _, writer in await opened(address, count)]
    head = f"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\nContent-Length: 100000\r\n\r\n".encode()
    for writer in writers[: count // 2]:
        writer.write(head + b"half")

    async def trickle() -> None:
        for byte in head:
            for writer in writers[count // 2 :]:
                if not writer.transport.is_closing():
                    writer.write(bytes([byte]))
            await asyncio.sleep(1.0)

    task = asyncio.ensure_future(trickle())
    try:
        yield len(writers)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        for writer in writers:
            writer.close()
