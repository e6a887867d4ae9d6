"""Bare sockets to a server under test, for what no HTTP client sends."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.service.support import Running

CHUNKED = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def place_of(url: str) -> tuple[str, int]:
    """Host and port of an address."""
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


@contextmanager
def connection(server: Running) -> Iterator[socket.socket]:
    """A bare connection to a server."""
    with socket.create_connection(place_of(server.url), timeout=20) as made:
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


def one_answer(open_socket: socket.socket) -> bytes:
    """The next answer, head and body, which may come apart."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = open_socket.recv(65_536)
        assert piece, received
        received += piece
    head, end, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        piece = open_socket.recv(length - len(body))
        assert piece, received
        body += piece
    return head + end + body


def exchange(server: Running, *pieces: bytes) -> bytes:
    """What comes back until the server closes, for pieces sent one after the other."""
    with connection(server) as open_socket:
        for piece in pieces:
            try:
                open_socket.sendall(piece)
            except ConnectionError:
                break
        return all_of(open_socket)


def problem_in(received: bytes, status: int) -> None:
    """Check that an answer as it came over the wire is a problem document of this status."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received[:200]
    assert b"content-type: application/problem+json" in head
    assert b"\r\ndate: " in head
    assert json.loads(body)["status"] == status


def alive(server: Running) -> None:
    """Check that the next connection is answered."""
    assert exchange(server, HEAD + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")
