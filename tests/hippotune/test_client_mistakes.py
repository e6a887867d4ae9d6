"""What callers get wrong, told to them: addresses, keys, ids, labels, and servers that are not ours."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hippotune import AsyncClient, Client, Refused, Task, TaskFailed, Unreachable
from hippotune.demo.data import DemoTask

PNG = b"\x89PNG\r\n\x1a\n"


@contextmanager
def stub(
    body: bytes, heard: Callable[[BaseHTTPRequestHandler], None] = lambda _request: None, status: int = 200
) -> Iterator[str]:
    """An HTTP server that answers the same whatever it is asked. heard: gets each request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            heard(self)
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *told: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()
            thread.join()


def test_labels_may_come_in_any_collection_and_one_alone(client: Client, tasks: list[DemoTask]) -> None:
    image = tasks[0].test[0].image
    for labels in (("0", "1"), {"0", "1"}, (label for label in "01")):
        answer = client.classify(image, labels=labels)
        assert {prediction.label for prediction in answer.predictions} == {"0", "1"}
    with pytest.raises(Refused, match="labels is 'Zero'"):
        client.classify(image, labels="Zero")
    with pytest.raises(ValueError, match="labels is empty; it must name at least one"):
        client.classify(image, labels=())


def test_no_image_is_told_before_anything_is_sent() -> None:
    with Client("http://127.0.0.1:1", retries=0) as client, pytest.raises(ValueError, match="no image"):
        client.classify_many([])


def test_more_labels_than_an_address_can_hold_are_told() -> None:
    many = [f"label {number}" for number in range(10_000)]
    with (
        Client("http://127.0.0.1:1", retries=0) as client,
        pytest.raises(ValueError, match="name fewer labels"),
    ):
        client.classify(b"image", labels=many)


@pytest.mark.parametrize("image", ["rose.jpg", b"bytes of an image", Path("rose.jpg")])
def test_a_single_image_is_not_taken_apart(image: str | bytes | Path) -> None:
    with (
        Client("http://127.0.0.1:1", retries=0) as client,
        pytest.raises(ValueError, match="images is a single one"),
    ):
        client.classify_many(image)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", ["localhost:8000", "", "http://", "http://127.0.0.1:80a", "http://[::1", "http://a:65536"]
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_is_no_address_is_told_at_once(kind: type[Client | AsyncClient], url: str) -> None:
    with pytest.raises(ValueError, match="no address of a server"):
        kind(url)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_patience_that_makes_no_sense_is_told_at_once(kind: type[Client | AsyncClient]) -> None:
    for timeout in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="it must be finite and more than 0, or None"):
            kind(timeout=timeout)
    with pytest.raises(ValueError, match="retries is -1; it must be at least 0"):
        kind(retries=-1)
    kind(timeout=None, retries=0)


def test_what_no_header_can_hold_is_told_and_a_key_not_shown(client: Client) -> None:
    with pytest.raises(ValueError, match="an API key must be of printable ASCII characters"):
        Client(api_key="se\ncret")
    with pytest.raises(ValueError, match="an idempotency key must be"):
        client.submit([(PNG, "a")], idempotency_key="schlüssel")


def test_a_key_may_end_with_the_newline_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIPPOTUNE_API_KEY", "secret\n")
    told: list[str | None] = []
    with (
        stub(b"", lambda request: told.append(request.headers["Authorization"])) as url,
        Client(url) as client,
    ):
        client.ready()
    assert told == ["Bearer secret"]


def test_a_forked_process_has_connections_of_its_own() -> None:
    ports: list[int] = []
    code = (
        "import os, sys; from hippotune import Client\n"
        "client = Client(sys.argv[1]); client.ready(); client.ready()\n"
        "if (child := os.fork()) == 0: client.ready(); os._exit(0)\n"
        "os.waitpid(child, 0); client.ready(); client.close()"
    )
    with stub(b"", lambda request: ports.append(request.client_address[1])) as url:
        subprocess.run([sys.executable, "-c", code, url], check=True)
    ours, again, childs, after = ports
    assert ours == again == after != childs


def test_errors_reach_the_pool_of_a_worker_that_raised_them() -> None:
    refused = pickle.loads(pickle.dumps(Refused(429, {"detail": "full"}, busy=True)))
    assert (str(refused), refused.status, refused.problem, refused.busy) == (
        "429: full",
        429,
        {"detail": "full"},
        True,
    )
    failed = pickle.loads(pickle.dumps(TaskFailed(Task("1", "failed", 1, ("a",), error="why"))))
    assert (str(failed), failed.task.id) == ("task 1 failed: why", "1")


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b"\xff"])
def test_another_server_is_told_from_ours(body: bytes) -> None:
    with stub(body) as url, Client(url) as client:
        for call in (client.tasks, client.versions, lambda: client.classify(PNG)):
            with pytest.raises(Unreachable, match=f"what answers at {url} is no HippoTune server"):
                call()


@pytest.mark.parametrize("body", [b"<html>\n<h1>Error</h1>", b'{"error": "what?"}'])
def test_an_error_of_another_server_is_told_in_a_line(body: bytes) -> None:
    with stub(body, status=404) as url, Client(url) as client, pytest.raises(Refused) as caught:
        client.tasks()
    told = f"404: Not Found; what answers at {url} is no HippoTune server, or stands before one"
    assert str(caught.value) == told


def test_an_id_is_one_part_of_a_path(client: Client) -> None:
    for odd in ("a/b", "../versions", "x?limit=1", "a\nb", "#"):
        with pytest.raises(Refused) as caught:
            client.remove(odd)
        assert caught.value.status == 404
    for none in ("", ".", ".."):
        with pytest.raises(ValueError, match="is no id of a task"):
            client.remove(none)


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has set."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_is_asked_for_this_machine(
    variable: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As offices set them for what is outside, often without NO_PROXY."""
    monkeypatch.setenv(variable, proxy)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with stub(b'{"tasks": []}') as url, Client(url, retries=0) as client:
        assert client.tasks() == []


@pytest.mark.usefixtures("no_proxies")
def test_a_proxy_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    with (
        Client("http://model.example", retries=0) as client,
        pytest.raises(Unreachable, match=r"asked by the proxy 127\.0\.0\.1:9 that") as caught,
    ):
        client.tasks()
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_the_environment_names_and_is_not_there_is_told(
    kind: type[Client | AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
        with pytest.raises(ValueError, match="SSL_CERT_FILE or SSL_CERT_DIR names cannot be read"):
            kind("https://model.example")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ValueError, match="names a SOCKS proxy"):
        kind("https://model.example")
