"""What the log tells of requests: the id that each has, and what became of it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from itertools import count
from math import inf
from time import monotonic

import structlog
from starlette.types import Scope

from service.http.problems import CLIENT_GONE, OF_DISK, REFUSED, shorten

log = structlog.get_logger(__name__)

HEADER = b"x-request-id"
SANE = re.compile(rb"[ -~]{1,128}")
FLOODS = frozenset({404, 429, CLIENT_GONE})
"""Statuses of what comes by the thousand, from whoever guesses paths or asks more than can be answered."""
PROBES = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Asked every few seconds by whoever watches the server, and told of in its metrics."""
WARNED_S = 60.0
"""Seconds for which a disk that causes refusals is not warned of once more."""


class RequestIds:
    """Ids of requests, by which a client, a proxy and the log mean the same one. For one thread."""

    def __init__(self) -> None:
        # Not drawn anew each time: to ask the system for random bytes takes longer than all the rest here.
        self._process, self._count = secrets.token_hex(6), count(1)

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The one that a request brings, if it is printable and not too long; else a new one."""
        for name, value in headers:
            if name == HEADER and SANE.fullmatch(value):
                return value.decode()
        return f"{self._process}-{next(self._count):x}"


class AccessLog:
    """A line for each request that was refused, at `info`, but for floods and probes, which are told at `debug`.

    Where a disk is the cause, the first is a warning, and one again every `WARNED_S`. From the event loop only.

    every: a line for each request of any kind, at `info`.
    """

    def __init__(self, every: bool) -> None:
        self._every = every
        self._warned = -inf

    def ended(self, scope: Scope, status: int, seconds: float) -> None:
        """The log's context names the request's id."""
        refused = status >= 400
        if not refused and not self._every:
            return
        quiet = not self._every and (status in FLOODS or scope["path"] in PROBES)
        tell = log.debug if quiet else self._warning_or_info(scope.get(OF_DISK, False))
        client, reason = scope["client"], scope.get(REFUSED)
        tell(
            "request refused" if refused else "request answered",
            method=scope["method"],
            path=shorten(scope["path"]),
            status=status,
            ms=round(1000 * seconds, 1),
            **({"client": client[0]} if client else {}),
            **({"reason": shorten(reason, 300)} if reason else {}),
        )

    def _warning_or_info(self, of_disk: bool) -> Callable[..., object]:
        """How to tell of a request."""
        now = monotonic()
        if not of_disk or now - self._warned < WARNED_S:
            return log.info
        self._warned = now
        return log.warning
