from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from exchange.embedded import EmbeddedRedis
from exchange.queue import QueueConfig
from model.spec import BackboneSpec
from service.config import ServiceConfig
from service.runtimes.torch import TorchRuntime
from tests.service.support import PX, Running, cancel_queued, picture, random_version, running, weights_file

LABELS = ("bee", "cat", "cow, brown", "dog", "emu", "fox")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> BackboneSpec:
    path = weights_file(tmp_path_factory.mktemp("weights") / "vit.safetensors")
    return BackboneSpec("test_vit2", path, PX)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def config(redis_url: str, backbone: BackboneSpec, tmp_path: Path) -> ServiceConfig:
    """Nobody else's queue and store."""
    queue = QueueConfig(prefix=tmp_path.name, capacity=5)
    return ServiceConfig(redis_url, tmp_path / "store", backbone, queue, runtime="torch", threads=1)


@pytest.fixture(scope="module")
def server(
    redis_url: str, backbone: BackboneSpec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A server for tests that leave no trace: it serves one version of six labels."""
    store = tmp_path_factory.mktemp("store")
    queue = QueueConfig(prefix=store.name, capacity=50)
    config = ServiceConfig(redis_url, store, backbone, queue, runtime="torch", threads=1)
    with running(config) as started:
        started.serve(random_version(started.backbone, LABELS))
        yield started


@pytest.fixture
def taught(server: Running) -> Iterator[Running]:
    """The shared server; its queue is emptied afterwards."""
    yield server
    cancel_queued(server.queue)


@pytest.fixture
def unharmed(server: Running) -> Iterator[None]:
    """Whatever a test sends, nothing is queued and the next request works."""
    yield
    assert server.queue.newest() == []
    assert server.queue.depth() == 0
    assert (
        server.client.post("/classify", content=picture(), headers={"Content-Type": "image/png"}).status_code
        == 200
    )
    assert server.services.metrics.queue_depth._value.get() == 0
    assert server.services.submissions.borrowed_tokens == 0


@pytest.fixture(scope="session")
def little(tmp_path_factory: pytest.TempPathFactory) -> BackboneSpec:
    """Six random blocks, 17 tokens of 64 channels."""
    path = weights_file(tmp_path_factory.mktemp("weights") / "little.safetensors", "test_vit", 64)
    return BackboneSpec("test_vit", path, 64)


@pytest.fixture(scope="module")
def beside(little: BackboneSpec) -> TorchRuntime:
    return TorchRuntime.load(little, "cpu", threads=1)
