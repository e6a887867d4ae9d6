"""uvicorn, stopping in the right order: not ready first, then no new work, then what is under way."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.http.connection import HttpConnection, Lobby

DRAIN_S = 30
MAX_CONNECTIONS = 10_000
OTHER_FILES = 256
"""Open files that are no connections: libraries, uploads under way, images being stored."""


def connections() -> int:
    """Connections that may be open, after asking for as many open files as this process may have."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(MAX_CONNECTIONS, soft - OTHER_FILES))


LOG = logging.getLogger("uvicorn.error")


def is_no_failure_of_the_app(record: logging.LogRecord) -> bool:
    """Of its start or its end uvicorn logs one as a message that is a traceback."""
    return "Traceback (most recent call last)" not in record.getMessage()


@contextmanager
def untold_tracebacks() -> Iterator[None]:
    """Of a failed start: whoever gets the exception says it better."""
    LOG.addFilter(is_no_failure_of_the_app)
    try:
        yield
    finally:
        LOG.removeFilter(is_no_failure_of_the_app)


class DrainingServer(uvicorn.Server):
    """Tells the app before connections are closed: that it is unready, then, in time for event streams to end, that it
    drains."""

    def __init__(self, app: FastAPI, *, host: str, port: int, idle_s: float, unready_s: float = 0.0) -> None:
        """idle_s: seconds until a connection is closed on which nothing is asked.
        unready_s: seconds to answer on, but not ready, once asked to stop, for a load balancer to notice.
        """
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=idle_s,  # type: ignore[arg-type]  # of any part of a second, too
                timeout_graceful_shutdown=DRAIN_S,
                # Of hundreds of connections that ask on without pause, uvloop leaves some without an answer for as long
                # as they do, health checks among them; `benchmarks.overload` measures the longest wait.
                loop="asyncio",
                http=partial(HttpConnection, Lobby(connections(), app.state.metrics)),  # type: ignore[arg-type]
                ws="none",
            )
        )
        self._lifecycle = app.state.lifecycle
        self._unready_s = unready_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Raises what kept the app from starting."""
        try:
            with untold_tracebacks():
                await super().startup(sockets)
        except SystemExit as ended:
            raise self._lifecycle.failure or ended from None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The second Ctrl-C waits for nothing any more; that this cuts the app's end short is no failure to tell."""
        super().handle_exit(sig, frame)
        if self.force_exit:
            LOG.addFilter(is_no_failure_of_the_app)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._lifecycle.unready = True
        await asyncio.sleep(self._unready_s)
        self._lifecycle.drain()
        await super().shutdown(sockets)


class OwnProcessServer(DrainingServer):
    """The same where a process does nothing else."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Then keeps garbage collection, which stops all answers, from searching half a million objects that stay."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
