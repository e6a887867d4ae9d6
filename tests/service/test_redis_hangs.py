"""A Redis that takes connections and answers nothing: the server says so soon, and ends as soon as it should."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.formparsers import MultiPartParser

from exchange.embedded import EmbeddedRedis
from service.config import ServiceConfig
from tests.service.support import picture, random_version, running, wait_for

PATIENCE_S = 10
"""Of a scraper, and of an init; a client of Redis that tries on for longer takes a quarter of a minute."""


CORRECTIONS = 60
"""More than threads of any pool."""


@contextmanager
def hung(redis: EmbeddedRedis) -> Iterator[None]:
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(redis.pid, signal.SIGCONT)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis") as redis:
        yield redis


def test_metrics_come_and_leave_out_what_cannot_be_seen(config: ServiceConfig, own: EmbeddedRedis) -> None:
    with running(replace(config, redis_url=own.url)) as server:
        server.serve(random_version(server.backbone, ("cat", "dog")))
        wait_for(lambda: "hippotune_task_state{" in server.client.get("/metrics").text)
        with hung(own), httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            text = client.get("/metrics").text
            assert "hippotune_stream_lag NaN\n" in text
            assert "hippotune_task_state{" not in text
            for path in ("/tasks", "/tasks/some-id", "/versions", "/versions/1", "/labels"):
                answer = client.get(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
            png = {"Content-Type": "image/png"}
            assert client.post("/classify", content=picture(), headers=png).status_code == 200
        wait_for(lambda: "hippotune_task_state{" in server.client.get("/metrics").text)


def test_corrections_that_wait_hold_up_nothing_else(config: ServiceConfig, own: EmbeddedRedis) -> None:
    large = picture(size=(900, 900))
    assert len(large) > MultiPartParser.spool_max_size
    with (
        running(replace(config, redis_url=own.url)) as server,
        httpx.Client(base_url=server.url, timeout=5 * PATIENCE_S) as corrector,
        ThreadPoolExecutor(CORRECTIONS) as callers,
    ):
        server.serve(random_version(server.backbone, ("cat", "dog")))
        png = {"Content-Type": "image/png"}
        ids = [
            server.client.post("/classify", content=picture(n), headers=png).json()["id"]
            for n in range(CORRECTIONS)
        ]

        def correct(id_: str) -> int:
            return corrector.post("/feedback", json={"id": id_, "label": "cat"}).status_code

        with hung(own), httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            waiting = [callers.submit(correct, id_) for id_ in ids]
            wait_for(lambda: server.services.patient.statistics().tasks_waiting > 0)
            assert client.post("/classify", files={"files": large}).status_code == 200
            assert "hippotune_stream_lag NaN\n" in client.get("/metrics").text
            assert not all(each.done() for each in waiting)
        assert {each.result() for each in waiting} <= {202, 429, 503}  # 429 where the queue is full


def test_a_stop_does_not_wait_for_it(
    config: ServiceConfig, own: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.service.support.WAIT_S", PATIENCE_S)
    with ExitStack() as stack:
        server = stack.enter_context(running(replace(config, redis_url=own.url)))
        server.serve(random_version(server.backbone, ("cat", "dog")))
        with hung(own):
            stack.close()
