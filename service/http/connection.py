"""HTTP/1.1 on one connection: uvicorn's, less patient with clients that send heads slowly, endlessly or never.

uvicorn waits for the head of a request without end and buffers it without limit. Here a head has `HEAD_S` seconds
and `MAX_HEAD` bytes, and a connection that waits for one may be closed to make room for another. It also waits without
end for a client to take an answer; here one that takes too little for `TAKEN_S` seconds loses its connection, and with
it its place among the event streams. And its timer for idle connections ends with any byte of a body that was answered
before it came; here it begins anew, and such a body is read on for `THROWN_S` seconds.

What differs besides: a request that offers to speak another protocol keeps its body, trailers are no headers, there is
one Host and no more, HTTP/1.0 gets no 100 Continue, and of requests that came together each is answered before one of
them is refused.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.http.access import HEADER, RequestIds
from service.http.problems import REQUEST_ID, Problem, answer, refused
from service.http.timer import Timer
from service.metrics import Metrics

log = structlog.get_logger(__name__)

HEAD_S = 10.0
TAKEN_S = 30.0
LEAVING_S = 2.0
"""`TAKEN_S` once the server shuts down."""
THROWN_S = 30.0
"""Seconds for which what is left of a body is read once it was refused, and thrown away."""
MAX_HEAD = 64 * 1024
MAX_HEADERS = 100


class HeadRefused(Exception):
    """Raised where httptools calls back, which it then reports as an error of its own."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@dataclass(slots=True)
class Lobby:
    """The connections of a server that wait for a request, longest first. most: open connections of all kinds.

    ids: those of requests, whichever connection they come by.
    """

    most: int
    metrics: Metrics
    ids: RequestIds = field(default_factory=RequestIds)
    waiting: dict[HttpConnection, None] = field(default_factory=dict)

    def make_room(self) -> bool:
        """Close the connection that has waited longest. False when all are at work."""
        for longest in self.waiting:
            longest.leave()
            return True
        return False


class HttpConnection(HttpToolsProtocol):
    """One connection."""

    def __init__(self, lobby: Lobby, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._lobby = lobby
        self._until_head, self._until_taken, self._until_thrown = (Timer(self.loop) for _ in range(3))
        self._in_head = True
        self._taken_s = TAKEN_S
        self._unused = 0
        """Bytes received since the last that ended a head or were part of a body."""
        self._unanswered: deque[RequestResponseCycle] = deque()
        """Requests whose heads came whole, oldest first."""
        self._refusal: Problem | None = None
        """What is said, and the last that is, once they are answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        at_once(transport)
        if len(self.connections) > self._lobby.most and not self._lobby.make_room():
            self._refuse(Problem(503, f"{self._lobby.most} connections are open, all of them at work"))
            return
        self._lobby.waiting[self] = None
        self._until_head.set(HEAD_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._until_taken.stop()
        self._until_thrown.stop()
        self.leave()
        super().connection_lost(exc)
        for cycle in self._unanswered:  # uvicorn tells the newest alone; others would write to what is closed
            cycle.disconnected = True
            cycle.message_event.set()

    def leave(self) -> None:
        """Close the connection, unless a request is under way on it."""
        self._lobby.waiting.pop(self, None)
        self._until_head.stop()
        if not self._unanswered:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self._refusal is not None:
            return
        self._unset_keepalive_if_required()
        self._unused += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, HeadRefused):
                self._refuse(error.__context__.problem)
            else:
                self._refuse(Problem(400, "what was sent is no sound HTTP/1.1"))
            return
        if self._unused > MAX_HEAD:
            self._refuse(too_large())
        elif self._until_head.running:
            return
        elif self._in_head and self._unused:
            self._until_head.set(HEAD_S, self._head_is_late)
        elif not self._unanswered:
            self._await_more()

    def _parse(self, data: bytes) -> None:
        """Raises HttpParserError.

        httptools takes what follows an offer to speak another protocol for that one already. Nothing else is spoken
        here, and a server may pass an offer over (RFC 9110, 7.8): the head is read again without it.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                head = self._head_without_offer()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self.parser.feed_data(head)
            else:
                return

    def _head_without_offer(self) -> bytes:
        lines = [
            b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        ]
        for name, value in self.headers:
            if name == b"connection":
                others = [token for token in value.split(b",") if token.strip().lower() != b"upgrade"]
                value = b",".join(others)
            if name != b"upgrade":
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join((*lines, b"", b""))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which must not pass for a header (RFC 9110, 6.5.1)
        if len(self.headers) >= MAX_HEADERS:
            raise HeadRefused(too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # see `_parse`
        self._until_head.stop()
        self._lobby.waiting.pop(self, None)
        self._in_head, self._unused = False, 0
        self._check_head()
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # it would take that for the answer (RFC 9110, 10.1.1)
        id_ = self.scope[REQUEST_ID] = self._lobby.ids.of(self.headers)  # type: ignore[literal-required]
        super().on_headers_complete()
        # Here, so that no answer is without: some are given outside of all that wraps the app.
        self.cycle.default_headers = [*self.cycle.default_headers, (HEADER, id_.encode())]
        self._unanswered.append(self.cycle)

    def _check_head(self) -> None:
        """Raises HeadRefused."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD:
            raise HeadRefused(too_large())
        if self.parser.get_method() == b"CONNECT":
            raise HeadRefused(refused("method", "CONNECT", "be another: this is no proxy", 400))
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise HeadRefused(refused("Host", f"given {hosts} times", "be given once", 400))

    def on_body(self, body: bytes) -> None:
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_head, self._unused = True, 0
        self._until_thrown.stop()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        answered = self._unanswered.popleft()
        answered.body = bytearray()  # of a body that was refused, which nobody reads any more
        super().on_response_complete()
        if self.transport.is_closing() or self._unanswered:
            return
        if self._refusal is not None:
            self._say(self._refusal)
        else:
            self._lobby.waiting[self] = None
            if not self._in_head:  # its body was refused before all of it had come
                self._until_thrown.set(THROWN_S, self.transport.close)

    def shutdown(self) -> None:
        super().shutdown()
        self._taken_s = LEAVING_S
        if self._until_taken.running:
            self._until_taken.set(self._taken_s, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._until_taken.set(self._taken_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._until_taken.stop()
        super().resume_writing()

    def _await_more(self) -> None:
        """As uvicorn does once all is answered: its timer ended with the byte that came."""
        idle = self.timeout_keep_alive_handler
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, idle)

    def _head_is_late(self) -> None:
        self._until_head.stop()
        if self._unused:
            self._refuse(Problem(408, f"the request's head took longer than {HEAD_S:.0f} s"))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer once all requests before are answered, and close.

        The request refused may be the newest of them, where its body is at fault: then that is not answered otherwise,
        unless it is being answered already.
        """
        newest = self._unanswered[-1] if self._unanswered else None
        if newest is not None and newest.more_body:
            if newest.response_started:
                self.transport.close()
                return
            if len(self._unanswered) > 1:
                self._unanswered.pop()
                self.pipeline.popleft()
            else:
                newest = None
        if newest is None:
            self._say(problem)
        else:
            self._refusal = problem

    def _say(self, problem: Problem) -> None:
        """Answer, and close."""
        id_ = self._lobby.ids.of(())
        log.debug("connection refused", status=problem.status, reason=problem.reason, request_id=id_)
        response = answer(self._lobby.metrics, problem, {REQUEST_ID: id_})
        own = *self.server_state.default_headers, (HEADER, id_.encode()), (b"connection", b"close")
        lines = [b"%b: %b\r\n" % header for header in (*response.raw_headers, *own)]
        self.transport.write(b"".join((STATUS_LINE[problem.status], *lines, b"\r\n", bytes(response.body))))
        self.transport.close()


def at_once(transport: asyncio.Transport) -> None:
    """Let nothing that is written wait. Head and body are written apart, and the body would wait for the client to
    acknowledge the head, up to 40 ms. asyncio sees to it for sockets alone that it made itself."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def too_large() -> Problem:
    allowed = f"have at most {MAX_HEADERS} headers, and with the path {MAX_HEAD} bytes"
    return refused("head of the request", "larger", allowed, 431)
