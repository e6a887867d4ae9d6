from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from exchange.queue import QueueConfig
from model.deliberation import LoopConfig
from model.spec import BackboneSpec
from service.config import ServiceConfig
from tests.service.support import Running, running
from tests.service.web.chromium import opened
from trainer.config import TrainerConfig
from trainer.learning.config import LearnerConfig, ValidationConfig
from trainer.worker import Worker


@pytest.fixture
def page(chromium: Browser, server: Running) -> Iterator[Page]:
    """The page of a server that knows six labels, watched for errors in its console."""
    with opened(chromium, server.url) as (page, errors):
        yield page
    assert errors == []


@pytest.fixture
def school(redis_url: str, backbone: BackboneSpec, tmp_path: Path) -> Iterator[Running]:
    """A server that knows nothing yet, and a real trainer beside it."""
    queue, store = QueueConfig(prefix=tmp_path.name), tmp_path / "store"
    learning = TrainerConfig(
        redis_url,
        store,
        queue=queue,
        backbone=backbone,
        loop=LoopConfig(topk=4),
        learner=LearnerConfig(least_images=0, slots=4, epochs=1, batch=8, settled=100),
        validation=ValidationConfig(share=0.25),
        threads=1,
    )
    with running(ServiceConfig(redis_url, store, backbone, queue, "torch", threads=1)) as server:
        stop = threading.Event()
        trainer = threading.Thread(target=lambda: Worker.open(learning).run(stop), name="trainer")
        trainer.start()
        try:
            yield server
        finally:
            stop.set()
            trainer.join()
