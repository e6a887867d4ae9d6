"""Every request has an id, which its answer and the log name, and a line in the log where it was refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service.config import ServiceConfig
from service.http import access
from service.routes import classify
from tests.service.sockets import HEAD, exchange
from tests.service.support import Running, picture, running, wait_for

PNG = {"Content-Type": "image/png"}
ID = "X-Request-ID"


def test_every_answer_names_its_request(server: Running) -> None:
    client = server.client
    answers = [
        client.get("/healthz"),
        client.head("/healthz"),
        client.post("/classify", content=picture(), headers=PNG),
        client.post("/classify?tmax=99", content=picture(), headers=PNG),
        client.get("/nowhere"),
        client.get("/healthz", headers={"Host": "example.org"}),
        client.get("/v2/models/nobody"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 422, 404, 403, 404]
    assert len({answer.headers[ID] for answer in answers}) == len(answers)
    assert b"x-request-id: " in exchange(server, b"GARBAGE\r\n\r\n")
    pipelined = exchange(
        server, (HEAD + b"\r\n") * 2 + HEAD + b"X-Request-ID: z\r\nConnection: close\r\n\r\n"
    )
    assert pipelined.count(b"x-request-id: ") == 3
    assert pipelined.count(b"x-request-id: z\r\n") == 1


@pytest.mark.parametrize(
    ("brought", "taken"),
    [
        (b"7f3a/9 b", True),
        (b"a" * 128, True),
        (b"a" * 129, False),
        (b"", False),
        (b"a\tb", False),
        (b"\xe4", False),
    ],
    ids=["sane", "long", "too long", "empty", "tab", "umlaut"],
)
def test_the_id_that_a_request_brings_is_kept_if_it_is_sane(
    server: Running, brought: bytes, taken: bool
) -> None:
    answer = server.client.get("/healthz", headers=[(ID.encode(), brought)])
    assert (answer.headers[ID].encode("latin-1") == brought) is taken
    assert answer.headers[ID].isascii()


def test_a_failure_says_which_request_it_was(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def unforeseen(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(classify, "known_labels", unforeseen)
    failed = httpx.post(f"{server.url}/classify", content=picture(), headers=PNG)  # which ends the connection
    monkeypatch.setattr(server.services.lifecycle, "draining", True)
    away = server.client.post("/classify", content=picture(), headers={**PNG, ID: "mine"})
    monkeypatch.undo()
    assert (failed.status_code, away.status_code) == (500, 503)
    assert failed.json()["request_id"] == failed.headers[ID]
    assert away.json()["request_id"] == away.headers[ID] == "mine"
    refused = server.client.post("/classify?tmax=99", content=picture(), headers=PNG)
    assert "request_id" not in refused.json()


def lines(ask: Callable[[], object], *ids: str, silent: str = "") -> list[dict[str, Any]]:
    """What the log is told of the requests of these ids, each after its answer was sent, and of that of `silent`."""
    with capture_logs([merge_contextvars]) as told:

        def of_requests() -> list[dict[str, Any]]:
            return [dict(line) for line in told if line.get("request_id") in (*ids, silent)]

        ask()
        wait_for(lambda: len(of_requests()) >= len(ids))
        return of_requests()


def test_what_is_refused_is_told_with_its_reason(server: Running) -> None:
    def ask() -> None:
        server.client.post("/classify", content=picture(), headers={**PNG, ID: "sound"})
        server.client.post("/classify?tmax=99", content=picture(), headers={**PNG, ID: "invalid"})
        server.client.get("/healthz", headers={"Host": "example.org", ID: "foreign"})

    invalid, foreign = lines(ask, "invalid", "foreign", silent="sound")
    assert invalid.pop("ms") > 0
    assert invalid == {
        "event": "request refused",
        "log_level": "info",
        "request_id": "invalid",
        "method": "POST",
        "path": "/classify",
        "status": 422,
        "client": "127.0.0.1",
        "reason": "tmax must lie in 1..4",
    }
    assert (foreign["request_id"], foreign["status"]) == ("foreign", 403)
    assert foreign["reason"].startswith("Host must be a loopback address")


def test_a_disk_that_refuses_is_warned_of_now_and_then(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(config) as server:
        blobs = server.config.store / "blobs"
        blobs.parent.mkdir(exist_ok=True)
        blobs.write_bytes(b"no folder")
        form = {"files": [("files", ("a", picture()))], "data": {"labels": ["cat"]}}

        def ask() -> None:
            for id_ in ("first", "second"):
                assert server.client.post("/tasks", **form, headers={ID: id_}).status_code == 503

        assert [line["log_level"] for line in lines(ask, "first", "second")] == ["warning", "info"]
        monkeypatch.setattr(access, "WARNED_S", 0.0)
        told = lines(ask, "first", "second")
        assert [line["log_level"] for line in told] == ["warning", "warning"]
        assert told[0]["reason"].startswith("cannot write to blobs in the store: ")


def test_a_key_in_a_wrong_place_is_not_told(server: Running) -> None:
    def ask() -> None:
        asked = server.client.post("/classify?api_key=ht_secret", content=picture(), headers={ID: "open"})
        assert "ht_secret" in asked.text

    (told,) = lines(ask, "open")
    assert told["reason"].startswith("api_key must be left out")
    assert "ht_secret" not in str(told)


def test_what_comes_in_floods_is_told_to_who_looks_closely(server: Running) -> None:
    def ask() -> None:
        server.services.lifecycle.unready = True
        server.client.get("/readyz", headers={ID: "probe"})
        server.services.lifecycle.unready = False
        server.client.head("/versions/99", headers={ID: "guess"})

    probe, guess = lines(ask, "probe", "guess")
    assert (probe["status"], probe["log_level"]) == (503, "debug")
    assert (guess["status"], guess["log_level"], guess["method"]) == (404, "debug", "HEAD")
    assert "99" in guess["reason"]


def test_all_requests_are_told_to_who_wants_that(config: ServiceConfig) -> None:
    def ask() -> None:
        httpx.get(f"{server.url}/healthz", headers={ID: "sound"})
        httpx.get(f"{server.url}/nowhere", headers={ID: "guess"})

    with running(replace(config, access_log=True)) as server:
        sound, guess = lines(ask, "sound", "guess")
    assert (sound["event"], sound["status"], sound["log_level"]) == ("request answered", 200, "info")
    assert (guess["event"], guess["status"], guess["log_level"]) == ("request refused", 404, "info")
