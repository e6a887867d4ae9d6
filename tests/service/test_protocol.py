"""Clients that are slow, silent, endless or wrong on a bare socket, and what HTTP/1.x has besides."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import pytest

from exchange.records import Sample
from service import middleware, protocol, receive
from service import server as server_module
from service.config import ServiceConfig
from tests.service.support import Running, picture, random_version, running, wait_for

CHUNKED = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@contextmanager
def connection(server: Running) -> Iterator[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as made:
        yield made


def all_of(open_socket: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    try:
        while piece := open_socket.recv(65_536):
            received += piece
    except ConnectionError:  # closed with bytes of ours unread
        pass
    return received


def exchange(server: Running, *pieces: bytes) -> bytes:
    with connection(server) as open_socket:
        for piece in pieces:
            try:
                open_socket.sendall(piece)
            except ConnectionError:
                break
        return all_of(open_socket)


def problem(received: bytes, status: int) -> dict[str, object]:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received[:200]
    assert b"content-type: application/problem+json" in head
    document: dict[str, object] = json.loads(body)
    assert document["status"] == status
    return document


def alive(server: Running) -> None:
    assert server.client.get("/healthz").status_code == 200


def test_a_head_that_trickles_is_cut_off(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.5)
    with connection(server) as open_socket:
        open_socket.settimeout(0.02)
        received = b""
        for byte in HEAD + b"X-Slow: " + b"s" * 200:
            try:
                open_socket.sendall(bytes([byte]))
                received = open_socket.recv(65_536)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    problem(received, 408)
    alive(server)


def test_a_connection_without_a_request_is_closed(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    assert exchange(server) == b""


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD, *[b"X-%d: y\r\n" % number for number in range(200)], b"\r\n"],
        [HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n"],
        [HEAD, b"X: ", *[b"y" * 10_000] * 50],
        [HEAD, *[b"y" * 10_000] * 50],
        [b"GET /", *[b"y" * 10_000] * 50],
        [CHUNKED + b"1\r\nx\r\n0\r\nX: ", *[b"y" * 10_000] * 50],
        [CHUNKED + b"1;", *[b"y" * 10_000] * 50],
    ],
    ids=[
        "many", "large at once", "endless value", "endless name", "endless path", "endless trailer",
        "endless extension",
    ],
)  # fmt: skip
def test_heads_without_end_are_refused(server: Running, pieces: list[bytes]) -> None:
    problem(exchange(server, *pieces), 431)
    alive(server)


@pytest.mark.parametrize(
    "request_line",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        CHUNKED[:-2] + b"Content-Length: 1\r\n\r\n0\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"GET /a\0b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=[
        "tls", "version", "space", "method", "negative length", "smuggling", "two lengths", "nul", "connect",
    ],
)  # fmt: skip
def test_what_is_no_http_is_a_problem_too(server: Running, request_line: bytes) -> None:
    problem(exchange(server, request_line), 400)
    alive(server)


def test_a_half_sent_body_is_408_and_leaves_nothing(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "SLOWEST", 1000)
    with running(replace(config, read_timeout_s=0.4)) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        for path, kind in (("/classify", b"image/png"), ("/tasks", b"application/zip")):
            head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %b\r\nContent-Length: 9999\r\n\r\n"
            with connection(server) as silent, connection(server) as trickling:
                silent.sendall(head % (path.encode(), kind) + b"half")
                trickling.sendall(head % (path.encode(), kind))
                trickling.settimeout(0.05)
                told, began = b"", time.monotonic()
                while not told and time.monotonic() - began < 10:
                    try:
                        trickling.sendall(b"x")
                        told = trickling.recv(65_536)
                    except TimeoutError:
                        continue
                assert b"slower than" in told
                silent.settimeout(10)
                assert b"HTTP/1.1 408" in silent.recv(65_536)
        assert server.services.submissions.borrowed_tokens == 0
        assert server.client.post(
            "/classify", content=picture(), headers={"Content-Type": "image/png"}
        ).is_success


def test_a_stop_waits_for_no_body_that_does_not_come(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one that keeps coming it does."""
    monkeypatch.setattr(receive, "DRAINING_S", 0.3)
    body = picture(size=(200, 200))
    head = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    with ExitStack() as open_sockets:
        with running(config) as server:
            server.serve(random_version(server.backbone, ("cat", "dog")))
            silent, trickling, steady = (open_sockets.enter_context(connection(server)) for _ in range(3))
            for one in (silent, trickling, steady):
                one.sendall(head + body[:1])
            held = server.services.bodies
            wait_for(lambda: held.held == 3)

            def send_on() -> None:
                for at in range(1, len(body), 6000):
                    steady.sendall(body[at : at + 6000])
                    with suppress(ConnectionError):
                        trickling.sendall(b"x")
                    time.sleep(0.1)

            sending = threading.Thread(target=send_on)
            sending.start()
        sending.join()
        assert b"HTTP/1.1 503" in all_of(silent)
        assert b"shutting down" in all_of(trickling)
        assert all_of(steady).startswith(b"HTTP/1.1 200")


def test_idle_connections_make_room(config: ServiceConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the server may have: the ones that have waited longest go, requests under way do not."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 20)
    with running(config) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        head = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(picture())
        with connection(server) as working:
            working.sendall(head)
            idle = [socket.create_connection(working.getpeername()) for _ in range(60)]
            try:
                alive(server)
                closed = 0
                for one in idle:
                    one.settimeout(0.05)
                    with suppress(TimeoutError):
                        closed += one.recv(1) == b""
                assert closed >= 40
                working.sendall(picture())
                assert working.recv(65_536).startswith(b"HTTP/1.1 200")
            finally:
                for one in idle:
                    one.close()


def test_busy_connections_do_not_make_room(config: ServiceConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 5)
    head = b"POST /tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/zip\r\nContent-Length: 9\r\n\r\n"
    with running(config) as server:
        server.client.close()
        place = server.services.submissions
        busy = []
        try:
            for number in range(5):
                busy.append(socket.create_connection(tuple_of(server.url)))
                busy[-1].sendall(head)
                wait_for(lambda wanted=number + 1: place.borrowed_tokens == wanted)
            problem(exchange(server), 503)
        finally:
            for one in busy:
                one.close()
        wait_for(lambda: place.borrowed_tokens == 0)
        assert exchange(server, HEAD + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def tuple_of(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


@contextmanager
def unread(server: Running) -> Iterator[str]:
    """A task whose events a client asked for and does not take."""
    blob = server.services.blobs.put(picture())
    task = server.queue.submit("told at length", [Sample(blob, "cat")]).task.id
    figures = {f"figure_{number}": number / 7 for number in range(2_000)}
    for share in range(200):
        server.queue.update(task, progress=share / 200, metrics=figures)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(tuple_of(server.url))
        reader.sendall(b"GET /tasks/%b/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % task.encode())
        wait_for(lambda: server.services.streams.borrowed_tokens == 1)
        yield task


def test_a_stream_that_nobody_reads_loses_its_place(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "TAKEN_S", 0.5)
    with running(config) as server:
        with unread(server) as task:
            wait_for(lambda: server.services.streams.borrowed_tokens == 0)
        assert not server.queue.get(task).state.ended, "nothing else ends the stream"
        alive(server)
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_a_stop_waits_for_nobody_who_takes_no_answer(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LEAVING_S", 0.3)
    with ExitStack() as reading, running(config) as server:
        reading.enter_context(unread(server))
        time.sleep(1)  # until nothing more fits on its way


def test_a_refusal_reaches_a_client_that_sends_all_before_it_reads(server: Running) -> None:
    head = b"POST /classify?tmax=99 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    body = bytes(3_000_000)
    with connection(server) as open_socket:
        open_socket.sendall(head % len(body))
        time.sleep(0.3)  # until it is refused
        for at in range(0, len(body), 100_000):
            open_socket.sendall(body[at : at + 100_000])
        problem(all_of(open_socket), 422)


def test_who_never_sends_a_refused_body_is_not_waited_for(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "LINGER_S", 0.2)
    head = b"POST /classify?tmax=99 HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n"
    problem(exchange(server, head), 422)  # which comes with the end of the connection


def test_http_1_0_is_answered_and_closed(server: Running) -> None:
    received = exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200")
    body = picture()
    head = b"POST /classify HTTP/1.0\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert b'"predictions"' in exchange(server, head + body)


def test_a_client_that_waits_for_100_gets_it_before_its_body(server: Running) -> None:
    body = picture()
    head = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
    with connection(server) as open_socket:
        open_socket.sendall(head % len(body))
        assert open_socket.recv(100).startswith(b"HTTP/1.1 100")
        open_socket.sendall(body)
        assert open_socket.recv(65_536).startswith(b"HTTP/1.1 200")
    too_much = head % (server.config.max_body_bytes + 1)
    with connection(server) as open_socket:
        open_socket.sendall(too_much)
        assert open_socket.recv(65_536).startswith(b"HTTP/1.1 413"), "refused before it is sent"


def test_chunked_bodies_are_read_and_pipelined_requests_answered_in_order(server: Running) -> None:
    body = picture()
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])
    first = CHUNKED + chunks
    last = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    received = exchange(server, first + HEAD + b"\r\n" + last)
    assert received.count(b"HTTP/1.1 200") == 3
    assert received.index(b'"predictions"') < received.index(b'"alive"') < received.index(b'"ready"')


def test_an_offer_to_speak_something_else_is_passed_over(server: Running) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    with connection(server) as open_socket:
        open_socket.sendall(HEAD + offer)
        assert open_socket.recv(65_536).startswith(b"HTTP/1.1 200")


def test_all_bodies_together_hold_a_bounded_memory(config: ServiceConfig) -> None:
    bounded = replace(config, max_body_bytes=1 << 20, max_held_bytes=1 << 20)
    with running(bounded) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        bodies, large = server.services.bodies, bytes(600_000)
        with connection(server) as unfinished:
            unfinished.sendall(CHUNKED + b"f4240\r\n" + large)
            wait_for(lambda: bodies.held == len(large))
            for path in ("/classify", "/v2/models/hippotune/infer"):
                refused = server.client.post(path, content=large)
                assert refused.status_code == 429
                assert refused.headers["retry-after"]
            many = server.client.post("/classify", files=[("files", ("a", large))])
            assert many.status_code == 429
            assert server.client.post("/classify", content=picture()).status_code == 200
            assert bodies.held == len(large)
        wait_for(lambda: bodies.held == 0)
