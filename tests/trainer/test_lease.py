"""Whose turn it is: a trainer waits for another's lease, and not for its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from exchange.connection import connect
from exchange.embedded import EmbeddedRedis
from exchange.lease import Lease
from exchange.queue import QueueConfig
from exchange.records import TaskState
from tests.trainer.bench import Bench
from trainer import worker
from trainer.learning.task import Task


def told(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The messages of a log."""
    return [line["event"] for line in lines]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_trainer_does_not_wait_for_its_own_lease_after_redis_was_restarted(
    tmp_path: Path, weights: Path, first: Task
) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, connect(server.url) as redis:
        bench = Bench(redis, server.url, tmp_path / "store", weights)
        with capture_logs() as lines, bench.trainer(queue=QueueConfig(lease_s=600)):
            until(lambda: "learning" in told(lines))
            server.stop()
            until(lambda: "cannot learn, trying again" in told(lines))
            server.start()
            bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
    assert not [event for event in told(lines) if event.startswith("waiting for the lease")]


def test_a_trainer_says_once_that_it_waits_for_another(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RETRY_S", 0.01)
    other, asked = Lease(bench.queue.redis, ttl_s=600), list[int]()
    theirs, acquire = other.acquire(), Lease.acquire
    assert theirs is not None

    def acquired(self: Lease) -> int | None:
        asked.append(1)
        return acquire(self)

    monkeypatch.setattr(Lease, "acquire", acquired)
    with capture_logs() as lines, bench.trainer():
        until(lambda: len(asked) > 3)
        other.release(theirs)
        bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
    assert [event.startswith("waiting for the lease") for event in told(lines)].count(True) == 1
