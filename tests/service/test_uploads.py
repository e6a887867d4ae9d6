"""The images of a task while they are looked through."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from service.config import ServiceConfig
from service.decode import decode
from service.lifecycle import Lifecycle
from service.problems import Problem
from service.uploads import Upload, check
from tests.service.support import PX, Running, flat_png, picture, running, wait_for


@pytest.fixture
def decoders() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


def uploads(images: Sequence[bytes]) -> list[Upload]:
    return [Upload("a", "cat", image.__bytes__) for image in images]


def test_flat_images_of_few_bytes_cannot_keep_a_place_busy(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch, decoders: Executor
) -> None:
    looked_at: list[str] = []

    def costly(*args: Any) -> None:
        looked_at.append(args[-1])
        ends = time.thread_time() + 0.02
        while time.thread_time() < ends:
            pass

    monkeypatch.setattr("service.uploads.decode", costly)
    config = replace(config, max_task_check_s=0.1)
    with pytest.raises(Problem, match="take at most 0") as refused:
        check(uploads([flat_png(100)] * 50), PX, config, Lifecycle(), decoders)
    assert refused.value.status == 413
    assert "it must take at most 0.1 s and one for each MiB" in refused.value.detail
    assert len(looked_at) <= 6
    large = bytes(100 * 1024)  # 0.1 s each
    assert len(check(uploads([large] * 20), PX, config, Lifecycle(), decoders)) == 20


def test_a_processor_that_others_keep_busy_is_not_the_tasks_fault(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch, decoders: Executor
) -> None:
    monkeypatch.setattr("service.uploads.decode", lambda *_: time.sleep(0.02))
    config = replace(config, max_task_check_s=0.1)
    assert len(check(uploads([picture()] * 10), PX, config, Lifecycle(), decoders)) == 10


def test_images_of_many_tasks_are_decoded_where_all_others_are(
    taught: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take hundreds of megabytes, and more than a dozen tasks may come at once."""
    decoders: list[str] = []

    def noting(*args: Any) -> Any:
        decoders.append(threading.current_thread().name)
        return decode(*args)

    def submit(seed: int) -> int:
        files = [("files", (str(index), picture(10 * seed + index))) for index in range(3)]
        return taught.client.post("/tasks", files=files, data={"labels": ["cat"] * 3}).status_code

    monkeypatch.setattr("service.uploads.decode", noting)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(submit, range(4))) == {202}
    assert decoders == ["decode_0"] * 12  # the server has one thread


def test_a_stop_waits_for_no_task_that_takes_long_to_look_through(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []

    def slow(*args: Any) -> None:
        looked_at.append(args[-1])
        time.sleep(0.05)

    monkeypatch.setattr("service.uploads.decode", slow)
    files = [("files", (str(index), picture())) for index in range(400)]  # 20 s
    with ThreadPoolExecutor() as pool:
        with running(config) as server:
            handed_in = pool.submit(
                httpx.post, f"{server.url}/tasks", files=files, data={"labels": ["cat"] * 400}, timeout=30
            )
            wait_for(lambda: looked_at)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        refused = handed_in.result()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert "shutting down" in refused.json()["detail"]
    assert server.queue.depth() == 0
