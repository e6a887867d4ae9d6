"""Where a server is in its life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.http.problems import Problem

DRAINING_S = 2.0
"""Seconds while the server shuts down without a byte of a body, or until the last image of a request was looked at:
containers are killed after 10."""


@dataclass(slots=True)
class Lifecycle:
    """unready: the server answers as ever, and wants requests to be sent elsewhere: it will drain.

    draining: it finishes what it has and takes nothing new.
    failure: what kept it from starting, or from ending well.
    """

    unready: bool = False
    draining: bool = False
    failure: Exception | None = None
    _hurried: set[asyncio.Timeout] = field(default_factory=set, init=False)

    def drain(self) -> None:
        """From the event loop."""
        self.draining = True
        ends = asyncio.get_running_loop().time() + DRAINING_S
        for timeout in self._hurried:
            timeout.reschedule(ends)

    @asynccontextmanager
    async def hurried(self) -> AsyncIterator[None]:
        """What is waited for in the block ends, with Problem 503, `DRAINING_S` after the shutdown began."""
        try:
            async with asyncio.timeout(DRAINING_S if self.draining else None) as timeout:
                self._hurried.add(timeout)
                try:
                    yield
                finally:
                    self._hurried.discard(timeout)
        except TimeoutError:
            told = "the server is shutting down, and the request has more images than it has time for"
            raise Problem(503, told) from None
