"""HTTP/1.1 on one connection: uvicorn's, less patient with clients that send heads slowly, endlessly or never.

uvicorn waits for the head of a request without end and buffers it without limit. Here a head has `HEAD_S` seconds
and `MAX_HEAD` bytes, and a connection that waits for one may be closed to make room for another. It also waits without
end for a client to take an answer; here one that takes too little for `TAKEN_S` seconds loses its connection, and with
it its place among the event streams.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.metrics import Metrics
from service.problems import Problem, answer, refused

HEAD_S = 10.0
TAKEN_S = 30.0
LEAVING_S = 2.0
"""`TAKEN_S` once the server shuts down."""
MAX_HEAD = 64 * 1024
MAX_HEADERS = 100


class HeadTooLarge(Exception):
    """More headers, or more bytes of them, than are read."""


@dataclass(slots=True)
class Lobby:
    """The connections of a server that wait for a request, longest first. most: open connections of all kinds."""

    most: int
    metrics: Metrics
    waiting: dict[HeadLimits, None] = field(default_factory=dict)

    def make_room(self) -> bool:
        """Close the connection that has waited longest. False when all are at work."""
        for longest in self.waiting:
            longest.leave()
            return True
        return False


class HeadLimits(HttpToolsProtocol):
    """One connection."""

    def __init__(self, lobby: Lobby, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._lobby = lobby
        self._timer: asyncio.TimerHandle | None = None
        self._until_taken: asyncio.TimerHandle | None = None
        self._in_head = True
        self._taken_s = TAKEN_S
        self._unused = 0
        """Bytes received since the last that ended a head or were part of a body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._lobby.most and not self._lobby.make_room():
            self._refuse(Problem(503, f"{self._lobby.most} connections are open, all of them at work"))
            return
        self._lobby.waiting[self] = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_until_taken()
        self.leave()
        super().connection_lost(exc)

    def leave(self) -> None:
        """Close the connection, unless a request is under way on it."""
        self._lobby.waiting.pop(self, None)
        self._stop_waiting()
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._unused += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # to nothing that is spoken here: answered in HTTP/1.1, as RFC 9110 allows
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, HeadTooLarge):
                self._refuse(too_large())
            else:
                self._refuse(Problem(400, "what was sent is no sound HTTP/1.1"))
            return
        if self._unused > MAX_HEAD:
            self._refuse(too_large())
        elif self._in_head and self._unused and self._timer is None:
            self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_HEADERS:
            raise HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._lobby.waiting.pop(self, None)
        self._in_head, self._unused = False, 0
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD:
            raise HeadTooLarge
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._unused = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._lobby.waiting[self] = None

    def shutdown(self) -> None:
        super().shutdown()
        self._taken_s = LEAVING_S
        if self._until_taken is not None:
            self._await_taking()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        self._stop_until_taken()
        super().resume_writing()

    def _await_taking(self) -> None:
        self._stop_until_taken()
        self._until_taken = self.loop.call_later(self._taken_s, self.transport.abort)

    def _stop_until_taken(self) -> None:
        if self._until_taken is not None:
            self._until_taken.cancel()
            self._until_taken = None

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._timer = None
        if self._unused:
            self._refuse(Problem(408, f"the request's head took longer than {HEAD_S:.0f} s"))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer, unless another answer is being written, and close."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            response = answer(self._lobby.metrics, problem)
            lines = [b"%b: %b\r\n" % header for header in (*response.raw_headers, (b"connection", b"close"))]
            self.transport.write(
                b"".join((STATUS_LINE[problem.status], *lines, b"\r\n", bytes(response.body)))
            )
        self.transport.close()


def too_large() -> Problem:
    allowed = f"have at most {MAX_HEADERS} headers, and with the path {MAX_HEAD} bytes"
    return refused("head of the request", "larger", allowed, 431)
