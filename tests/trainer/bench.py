"""A real queue, a real store, and trainers on them, as threads or as processes that can be killed."""

from __future__ import annotations

import io
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from redis import Redis

from exchange.blobs import BlobStore
from exchange.queue import QueueConfig, TaskQueue
from exchange.records import Sample, TaskRecord, TaskState
from exchange.registry import Registry
from model.backbone import BackboneSpec
from trainer.config import LearnerConfig, ValidationConfig
from trainer.learner import Task
from trainer.process import TrainerConfig
from trainer.state import LearnerState
from trainer.worker import run

QUEUE = QueueConfig(lease_s=1.5)
SLOW = LearnerConfig(slots=4, epochs=12, least_steps=0, batch=4, width=100)
FAST = LearnerConfig(slots=4, epochs=2, least_steps=0, batch=8, width=100)


class Bench:
    """A queue, a store and whatever trainers a test starts on them."""

    def __init__(self, redis: Redis, url: str, root: Path, weights: Path) -> None:
        self.root = root
        self.queue = TaskQueue(redis, BlobStore(root / "blobs"), QUEUE)
        self.registry = Registry(redis, root / "versions")
        self.spec = BackboneSpec("vit_tiny_patch16_224", weights, 32)
        self.url = url

    def config(self, learner: LearnerConfig, consumer: str = "one") -> TrainerConfig:
        return TrainerConfig(
            self.url,
            self.root,
            backbone=self.spec,
            learner=learner,
            consumer=consumer,
            validation=ValidationConfig(share=0.1),
            queue=QUEUE,
            threads=1,
        )

    def submit(self, task: Task) -> str:
        samples = []
        for pixels, label in zip(task.pixels, task.labels, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
            samples.append(Sample(self.queue.blobs.put(buffer.getvalue()), label))
        return self.queue.submit(task.id, samples).task.id

    def wait(self, task: str, ready: Callable[[TaskRecord], bool]) -> TaskRecord:
        deadline = time.monotonic() + 60
        while not ready(record := self.queue.get(task)):
            assert time.monotonic() < deadline, f"still {record}"
            time.sleep(0.01)
        return record

    def wait_for(self, task: str, state: TaskState) -> TaskRecord:
        return self.wait(task, lambda record: record.state == state)

    @contextmanager
    def trainer(self, learner: LearnerConfig = FAST) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=run, args=(self.config(learner), stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def process(self, learner: LearnerConfig, consumer: str) -> multiprocessing.Process:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=train_until_killed, args=(self.config(learner, consumer),))
        process.start()
        return process  # type: ignore[return-value]

    def state(self) -> LearnerState:
        newest = self.registry.newest_consolidated()
        assert newest is not None
        return LearnerState.load(self.registry.path(newest.version, "learner"))


def train_until_killed(config: TrainerConfig) -> None:
    torch.set_num_threads(1)
    run(config, threading.Event())
