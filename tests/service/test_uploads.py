"""The images of a task while they are looked through."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.config import ServiceConfig
from tests.service.support import picture, running, wait_for


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
