"""Clients that are slow, silent, endless or wrong on a bare socket, and what HTTP/1.x has besides."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from service.config import ServiceConfig
from service.http import connection as http_connection
from service.http import middleware, receive
from tests.service.sockets import CHUNKED, HEAD, alive, all_of, connection, exchange, one_answer, problem_in
from tests.service.support import Running, picture, random_version, running, wait_for

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


def test_a_head_that_trickles_is_cut_off(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "HEAD_S", 0.5)
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
            except ConnectionError:  # of a byte that crossed the answer, which has come all the same
                break
        open_socket.settimeout(20)
        received = received or all_of(open_socket)
    problem_in(received, 408)
    alive(server)


def test_a_connection_without_a_request_is_closed(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "HEAD_S", 0.3)
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
    problem_in(exchange(server, *pieces), 431)
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
        b"CONNECT / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        HEAD + b"Host: 127.0.0.1\r\n\r\n",
    ],
    ids=[
        "tls", "version", "space", "method", "negative length", "smuggling", "two lengths", "nul", "connect",
        "connect to a path", "no host", "two hosts",
    ],
)  # fmt: skip
def test_what_is_no_http_is_a_problem_too(server: Running, request_line: bytes) -> None:
    problem_in(exchange(server, request_line), 400)
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
                        told = trickling.recv(1)
                    except TimeoutError:
                        continue
                trickling.settimeout(10)
                told += one_answer(trickling)
                assert b"slower than" in told
                silent.settimeout(10)
                assert b"HTTP/1.1 408" in silent.recv(65_536)
        assert server.services.submissions.borrowed_tokens == 0
        assert server.client.post(
            "/classify", content=picture(), headers={"Content-Type": "image/png"}
        ).is_success


def test_a_refusal_reaches_a_client_that_sends_all_before_it_reads(server: Running) -> None:
    head = b"POST /classify?tmax=99 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    body = bytes(3_000_000)
    with connection(server) as open_socket:
        open_socket.sendall(head % len(body))
        time.sleep(0.3)  # until it is refused
        for at in range(0, len(body), 100_000):
            open_socket.sendall(body[at : at + 100_000])
        problem_in(all_of(open_socket), 422)


def test_who_never_sends_a_refused_body_is_not_waited_for(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "LINGER_S", 0.2)
    head = b"POST /classify?tmax=99 HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n"
    problem_in(exchange(server, head), 422)  # which comes with the end of the connection


REFUSED = (
    b"POST /tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n"
)


@pytest.mark.parametrize("sent", [0, 1, 1_000_000], ids=["nothing", "a byte", "all"])
def test_a_connection_is_idle_whatever_came_of_a_body_that_was_refused_before(
    config: ServiceConfig, sent: int
) -> None:
    with running(replace(config, idle_s=0.5)) as server, connection(server) as open_socket:
        open_socket.sendall(REFUSED)
        problem_in(one_answer(open_socket), 415)
        with suppress(ConnectionError):  # a slow client sends into what is closed by then
            open_socket.sendall(bytes(sent))
        assert all_of(open_socket) == b"", "the server closes"


def test_a_request_follows_a_body_that_was_refused_before_it_came(server: Running) -> None:
    with connection(server) as open_socket:
        open_socket.sendall(REFUSED)
        problem_in(one_answer(open_socket), 415)
        open_socket.sendall(bytes(1_000_000) + HEAD + b"Connection: close\r\n\r\n")
        assert all_of(open_socket).startswith(b"HTTP/1.1 200")


def test_a_refused_body_without_end_is_not_read_for_ever(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "THROWN_S", 0.5)
    with connection(server) as open_socket:
        open_socket.sendall(REFUSED)
        problem_in(one_answer(open_socket), 415)
        with pytest.raises(ConnectionError):
            trickle(open_socket, 200)


def trickle(open_socket: socket.socket, size: int) -> None:
    for _ in range(size):
        open_socket.sendall(b"x")
        time.sleep(0.05)


def test_http_1_0_is_answered_and_closed(server: Running) -> None:
    received = exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200")
    body = picture()
    head = b"POST /classify HTTP/1.0\r\nExpect: 100-continue\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    received = exchange(server, head % len(body) + body)
    assert received.startswith(b"HTTP/1.1 200"), "it knows no 100 Continue"
    assert b'"predictions"' in received


def test_a_client_that_waits_for_100_gets_it_before_its_body(server: Running) -> None:
    body = picture()
    head = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
    with connection(server) as open_socket:
        open_socket.sendall(head % len(body))
        assert open_socket.recv(100).startswith(b"HTTP/1.1 100")
        open_socket.sendall(body)
        assert one_answer(open_socket).startswith(b"HTTP/1.1 200")
    too_much = head % (server.config.max_body_bytes + 1)
    with connection(server) as open_socket:
        open_socket.sendall(too_much)
        assert one_answer(open_socket).startswith(b"HTTP/1.1 413"), "refused before it is sent"


def test_chunked_bodies_are_read_and_pipelined_requests_answered_in_order(server: Running) -> None:
    body = picture()
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])
    first = CHUNKED + chunks
    last = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    received = exchange(server, first + HEAD + b"\r\n" + last)
    assert received.count(b"HTTP/1.1 200") == 3
    assert received.index(b'"predictions"') < received.index(b'"alive"') < received.index(b'"ready"')


def test_an_offer_to_speak_something_else_is_passed_over(server: Running) -> None:
    with connection(server) as open_socket:
        open_socket.sendall(HEAD + OFFER + b"\r\n")
        assert one_answer(open_socket).startswith(b"HTTP/1.1 200")
        open_socket.sendall(HEAD + b"Connection: close\r\n\r\n")
        assert all_of(open_socket).startswith(b"HTTP/1.1 200"), "and what follows is HTTP as before"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_that_offers_something_else_keeps_its_body(server: Running, chunked: bool) -> None:
    body = picture()
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    head = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n%b\r\n" % (length, OFFER)
    last = HEAD + b"Connection: close\r\n\r\n"
    for pieces in ([head + sent + last], [head, sent, last], [head, sent[:20], sent[20:] + last]):
        received = exchange(server, *pieces)
        assert received.count(b"HTTP/1.1 200") == 2
        assert received.index(b'"predictions"') < received.index(b'"alive"')


def test_a_body_is_no_request_whatever_its_head_offers(server: Running) -> None:
    inner = HEAD + b"\r\n"
    head = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n%b\r\n" % (len(inner), OFFER)
    received = exchange(server, head, inner, HEAD + b"Connection: close\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 415")
    assert received.count(b"HTTP/1.1") == 2


def test_many_offers_that_come_together_are_all_passed_over(server: Running) -> None:
    offers = 600
    received = exchange(server, (HEAD + OFFER + b"\r\n") * offers + HEAD + b"Connection: close\r\n\r\n")
    assert received.count(b"HTTP/1.1 200") == offers + 1


def test_a_trailer_is_no_header(server: Running) -> None:
    body = picture()
    chunks = b"%x\r\n%b\r\n0\r\nContent-Encoding: gzip\r\n\r\n" % (len(body), body)
    received = exchange(server, CHUNKED + chunks + HEAD + b"Connection: close\r\n\r\n")
    assert received.count(b"HTTP/1.1 200") == 2


GARBAGE = b"GARBAGE\r\n\r\n"


def test_what_came_before_a_request_that_is_refused_is_answered(server: Running) -> None:
    body = picture()
    whole = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    unsound = CHUNKED + b"x\r\n"
    for sent, answered in (
        (whole + GARBAGE, 1),
        (whole + HEAD + b"\r\n" + GARBAGE, 2),
        (whole + unsound, 1),
        (whole + HEAD + b"\r\n" + unsound, 2),
        (unsound, 0),
    ):
        received = exchange(server, sent)
        assert received.count(b"HTTP/1.1 200") == answered
        last = received[received.rindex(b"HTTP/1.1 ") :]
        problem_in(last, 400)
    alive(server)


def test_who_leaves_before_all_is_answered_is_no_error_of_ours(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    body = picture()
    whole = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for _ in range(5):
        with connection(server) as open_socket:
            open_socket.sendall(whole * 8)
            open_socket.recv(100)
    wait_for(lambda: not server.services.engine.admitted)
    alive(server)
    assert "Exception in ASGI application" not in caplog.text
