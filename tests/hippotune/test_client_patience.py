"""How often and how long the clients try, against a real socket that says no first, or nothing at all."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from hippotune import AsyncClient, Client, Refused, TaskUnfinished, Unanswered, Unreachable
from hippotune.outcomes import Tries
from tests.hippotune.conftest import hippotune

PNG = b"\x89PNG\r\n\x1a\n"
MIB = 1 << 20
TASK = {"id": "1", "state": "queued", "images": 1, "labels": ["a"]}
BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])


@contextmanager
def answering(*answers: tuple[int, dict[str, str]] | None) -> Iterator[tuple[str, list[float]]]:
    """An HTTP server that gives these answers in turn, then 200; and the times it was asked. None: it says nothing."""
    asked: list[float] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(time.monotonic())
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            number = len(asked) - 1
            answer = answers[number] if number < len(answers) else (200, {})
            if answer is None:
                over.wait()
                return
            status, headers = answer
            body = json.dumps(TASK | {"tasks": []} if status == 200 else {"title": "no"}).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def do_DELETE(self) -> None:
            self.do_GET()

        def log_message(self, *told: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}", asked
        finally:
            over.set()
            listening.shutdown()
            thread.join()


def call(kind: type[Client | AsyncClient], url: str, method: str, *arguments: Any, **settings: Any) -> Any:
    """What a client of either kind gets for one call."""
    if issubclass(kind, Client):
        with kind(url, **settings) as client:
            return getattr(client, method)(*arguments)

    async def calling() -> Any:
        async with AsyncClient(url, **settings) as client:
            return await getattr(client, method)(*arguments)

    return asyncio.run(calling())


def test_it_comes_back_when_told() -> None:
    answers = (429, {"Retry-After": "0.5"}), (503, {}), (409, {"Retry-After": "0"})
    with answering(*answers) as (url, asked), Client(url) as client:
        assert client.tasks() == []
    assert asked[1] - asked[0] >= 0.5
    assert len(asked) == 4


def test_it_gives_up_in_the_end() -> None:
    no = (503, {"Retry-After": "0"})
    with (
        answering(*[no] * 9) as (url, asked),
        Client(url, retries=2) as client,
        pytest.raises(Refused) as caught,
    ):
        client.tasks()
    assert caught.value.busy
    assert len(asked) == 3


def test_what_is_not_busy_is_not_tried_again() -> None:
    with answering((500, {})) as (url, asked), Client(url) as client, pytest.raises(Refused):
        client.tasks()
    assert len(asked) == 1


def test_a_retry_date_counts_too() -> None:
    tries = Tries(5, 60.0)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    pause = tries.pause(httpx.Response(503, headers={"Retry-After": soon}))
    assert pause is not None
    assert 15 < pause <= 20
    assert tries.pause(httpx.Response(503, headers={"Retry-After": "3600"})) is None
    assert tries.pause(httpx.Response(200)) is None


@BOTH
def test_a_task_that_is_being_received_is_waited_for_as_long_as_its_answer(
    kind: type[Client | AsyncClient],
) -> None:
    for timeout in (60.0, None):
        with answering(*[(409, {"Retry-After": "0"})] * 5) as (url, asked):
            assert call(kind, url, "submit", [(PNG, "a")], timeout=timeout, retries=2).id == "1"
        assert len(asked) == 6


@BOTH
def test_a_task_that_is_being_received_for_ever_is_given_up(kind: type[Client | AsyncClient]) -> None:
    busy = (409, {"Retry-After": "0"})
    for retries, timeout in ((1, 2.0), (0, 60.0)):
        with answering(*[busy] * 99) as (url, asked), pytest.raises(Refused) as caught:
            call(kind, url, "submit", [(PNG, "a")], timeout=timeout, retries=retries)
        assert (caught.value.status, caught.value.busy) == (409, True)
        assert len(asked) < 99
    assert len(asked) == 1, "no retries are none"


@BOTH
def test_an_answer_that_takes_too_long_is_not_told_as_no_server(kind: type[Client | AsyncClient]) -> None:
    with answering(None, None, None) as (url, _):
        with pytest.raises(Unanswered) as caught:
            call(kind, url, "submit", [(PNG, "a")], "name", "mine", timeout=0.5, retries=0)
        told = f"the server at {url} did not answer within 0.5 s; it may have accepted the task: the same again with "
        assert str(caught.value) == f"{told}the idempotency key mine makes no second one"
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (str(copy), copy.key) == (str(caught.value), "mine")
        with pytest.raises(Unreachable) as caught:
            call(kind, url, "tasks", timeout=0.5, retries=0)
        assert str(caught.value) == f"the server at {url} did not answer within 0.5 s"
        with pytest.raises(Unreachable, match=r"within 0.5 s; it may have done what it was asked for$"):
            call(kind, url, "activate", 1, timeout=0.5, retries=0)


@BOTH
def test_the_answer_to_a_task_may_take_a_second_more_for_each_mib(
    kind: type[Client | AsyncClient], tmp_path: Path
) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(bytes(MIB // 2))
    for source in (archive, [(PNG + bytes(MIB // 2 - len(PNG)), "a")]):
        with answering(None) as (url, _), pytest.raises(Unanswered, match="within 1 s") as caught:
            call(kind, url, "submit", source, timeout=0.5, retries=0)
        assert isinstance(caught.value.__cause__, httpx.ReadTimeout)
        waits = caught.value.__cause__.request.extensions["timeout"]
        assert waits == {"connect": 0.5, "read": 1.0, "write": 0.5, "pool": 0.5}


@BOTH
def test_an_answer_that_cannot_be_decoded_is_no_server_of_ours(kind: type[Client | AsyncClient]) -> None:
    with answering((200, {"Content-Encoding": "gzip"})) as (url, asked):
        with pytest.raises(Unreachable, match=f"what answers at {url} is no HippoTune server: "):
            call(kind, url, "tasks")
        assert len(asked) == 1
    with answering((200, {"Content-Encoding": "gzip"})) as (url, _):
        assert not call(kind, url, "ready")


def test_the_command_line_tells_how_to_find_a_task_that_may_have_been_accepted(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        (tmp_path / "pets" / label / "0.png").write_bytes(PNG)
    patience = ("--timeout-s", "3", "--retries", "0", "--task-images", "1")
    for given in ((), ("--key", "mine")):
        with answering((200, {}), None) as (url, _):
            late = hippotune("submit", tmp_path / "pets", *patience, *given, "--url", url)
        assert late.returncode == 3
        found = re.search("with the idempotency key ([^ ]+)-2 makes no second one\n", late.stderr)
        assert found is not None
        assert f"the same command with --key {found[1]} finds it, and hands in nothing twice" in late.stderr
        assert "hippotune up" not in late.stderr
    assert found[1] == "mine"


@BOTH
def test_a_task_is_waited_for_as_long_as_asked(kind: type[Client | AsyncClient]) -> None:
    with answering() as (url, asked):
        for seconds in (0, 0.3):
            with pytest.raises(TaskUnfinished, match="task 1 is still queued") as caught:
                call(kind, url, "wait", "1", seconds)
            copy = pickle.loads(pickle.dumps(caught.value))
            assert (str(copy), copy.task, copy.task.state) == (str(caught.value), caught.value.task, "queued")
        before = len(asked)
        with pytest.raises(ValueError, match="timeout is -1; it must be at least 0, or None"):
            call(kind, url, "wait", "1", -1)
        assert len(asked) == before


def test_commands_wait_as_long_as_asked_and_tell_how_far_it_is(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        (tmp_path / "pets" / label / "0.png").write_bytes(PNG)
    for *command, tasks in (
        ("submit", tmp_path / "pets", 1),
        ("submit", tmp_path / "pets", "--task-images", "1", 2),
        ("feedback", "an answer", "a", 1),
        ("forget", "1", 1),
    ):
        with answering() as (url, _):
            late = hippotune(*command, "--wait-s", "0.3", "--json", "--url", url)
        assert late.returncode == 6, late.stderr
        told = json.loads(late.stdout)
        assert [task["state"] for task in (told if tasks > 1 else [told])] == ["queued"] * tasks
        assert "error: task 1 is still queued; the time to wait for it is over" in late.stderr
        assert late.stderr.count("the task is not lost: `hippotune tasks 1` shows it") == 1
