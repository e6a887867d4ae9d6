"""A timer of an event loop that is set and stopped over and over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """Calls back once, unless it is stopped or set anew before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """False once it was stopped; it is for what it calls to stop it."""
        return self._handle is not None

    def set(self, seconds: float, call: Callable[[], object]) -> None:
        self.stop()
        self._handle = self._loop.call_later(seconds, call)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
