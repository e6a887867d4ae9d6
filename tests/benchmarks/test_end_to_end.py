"""Swaps under load, of a real server: what is counted, and what befalls the callers when the server goes away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.end_to_end import swap_under_load
from exchange.embedded import EmbeddedRedis
from exchange.queue import QueueConfig
from hippotune import Client
from hippotune.errors import HippoTuneError
from model.spec import BackboneSpec
from service.config import ServiceConfig
from tests.service.support import Running, picture, random_version, running, wait_for, weights_file

IMAGES = [picture(1), picture(2)]


@pytest.fixture
def config(redis_server: EmbeddedRedis, tmp_path: Path) -> ServiceConfig:
    spec = BackboneSpec("test_vit2", weights_file(tmp_path / "vit.safetensors"), 32)
    queue = QueueConfig(prefix=tmp_path.name)
    return ServiceConfig(redis_server.url, tmp_path / "store", spec, queue, runtime="torch", threads=1)


def teach(server: Running) -> None:
    """Two versions of the same labels and other scores."""
    for seed in (1, 2):
        server.serve(random_version(server.backbone, ("cat", "dog"), seed=seed))


def test_swaps_and_what_was_answered_meanwhile_are_counted(config: ServiceConfig) -> None:
    with running(config) as server, Client(server.url, retries=0) as client:
        teach(server)
        figures = swap_under_load(client, IMAGES, swaps=6, callers=2)
    assert (figures["swaps"], figures["failed"], figures["mixed_versions"]) == (6, 0, 0)
    assert figures["answered"] > 0
    assert figures["median_seconds_from_activate_to_first_answer"] > 0


def test_callers_end_with_a_server_that_goes_away(config: ServiceConfig) -> None:
    def called() -> set[str]:
        return {thread.name for thread in threading.enumerate() if "(ask)" in thread.name}

    with ThreadPoolExecutor(1) as pool:
        with running(config) as server:
            teach(server)
            client = Client(server.url, retries=0)
            swaps = pool.submit(swap_under_load, client, IMAGES, swaps=10**6, callers=2)
            wait_for(lambda: len(called()) == 2)
        with client, pytest.raises(HippoTuneError):
            swaps.result(60)
    assert called() == set()
