from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from exchange.embedded import EmbeddedRedis
from exchange.queue import QueueConfig
from exchange.records import TaskState
from model.backbone import Backbone, BackboneSpec
from service.config import ServiceConfig
from service.runtimes.torch import TorchRuntime
from tests.service.support import PX, Running, picture, random_version, running, weights_file

LABELS = ("bee", "cat", "cow, brown", "dog", "emu", "fox")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> BackboneSpec:
    path = weights_file(tmp_path_factory.mktemp("weights") / "vit.safetensors")
    return BackboneSpec("vit_tiny_patch16_224", path, PX)


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
    for task in server.queue.newest():
        if task.state == TaskState.QUEUED:
            server.queue.remove(task.id)


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


@pytest.fixture(scope="module")
def beside() -> TorchRuntime:
    """Four random blocks, 17 tokens of 48 channels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=3, num_classes=0)
    return TorchRuntime(Backbone("test", vit, 32, (0.5,) * 3, (0.5,) * 3), torch.device("cpu"))
