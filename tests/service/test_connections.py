"""Connections and bodies hold a bounded share of the server, and none of them keeps it from stopping."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import pytest

from exchange.records import Sample, TaskChange
from service import server as server_module
from service.config import ServiceConfig
from service.http import connection as http_connection
from service.http import receive
from tests.service.sockets import (
    CHUNKED,
    HEAD,
    alive,
    all_of,
    connection,
    exchange,
    one_answer,
    place_of,
    problem_in,
)
from tests.service.support import Running, picture, random_version, running, wait_for


def test_idle_connections_make_room(config: ServiceConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the server may have: the ones that have waited longest go, requests under way do not."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 20)
    with running(config) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        head = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        with connection(server) as working:
            working.sendall(head % len(picture()))
            assert working.recv(65_536).startswith(b"HTTP/1.1 100"), "else it is one that waits"
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
                assert one_answer(working).startswith(b"HTTP/1.1 200")
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
                busy.append(socket.create_connection(place_of(server.url)))
                busy[-1].sendall(head)
                wait_for(lambda wanted=number + 1: place.borrowed_tokens == wanted)
            problem_in(exchange(server), 503)
        finally:
            for one in busy:
                one.close()
        wait_for(lambda: place.borrowed_tokens == 0)
        assert exchange(server, HEAD + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


@contextmanager
def unread(server: Running) -> Iterator[str]:
    """A task whose events a client asked for and does not take."""
    blob = server.services.blobs.put(picture())
    task = server.queue.submit("told at length", [Sample(blob, "cat")]).task.id
    figures = {f"figure_{number}": number / 7 for number in range(2_000)}
    for share in range(200):
        server.queue.update(task, TaskChange(progress=share / 200, metrics=figures))
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(place_of(server.url))
        reader.sendall(b"GET /tasks/%b/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % task.encode())
        wait_for(lambda: server.services.streams.borrowed_tokens == 1)
        yield task


def test_a_stream_that_nobody_reads_loses_its_place(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_connection, "TAKEN_S", 2.0)  # so long that its place is seen to be held before
    with running(config) as server:
        with unread(server) as task:
            wait_for(lambda: server.services.streams.borrowed_tokens == 0)
        assert not server.queue.get(task).state.ended, "nothing else ends the stream"
        alive(server)
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_a_stop_waits_for_nobody_who_takes_no_answer(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "LEAVING_S", 0.3)
    with ExitStack() as reading, running(config) as server:
        reading.enter_context(unread(server))
        time.sleep(1)  # until nothing more fits on its way


def test_a_stop_ends_connections_on_which_nothing_is_asked(config: ServiceConfig) -> None:
    with ExitStack() as idle:
        with running(replace(config, idle_s=3600)) as server:
            asked, silent = (idle.enter_context(connection(server)) for _ in range(2))
            asked.sendall(HEAD + b"\r\n")
            assert one_answer(asked).startswith(b"HTTP/1.1 200")
        assert all_of(asked) == all_of(silent) == b""


def test_a_stop_waits_for_no_body_that_does_not_come(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one that keeps coming it does."""
    monkeypatch.setattr(receive, "DRAINING_S", 1.0)
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
