"""A real queue, a real store, and trainers on them, as threads or as processes that can be killed."""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image
from redis import Redis

from exchange.blobs import BlobStore
from exchange.lease import Lease
from exchange.manifests import Manifest
from exchange.queue import QueueConfig
from exchange.records import LabelChange, Sample, TaskRecord, TaskState
from exchange.registry import Registry
from exchange.work import WorkQueue
from model.backbone import load_backbone
from model.network import RetrievalViT
from model.spec import BackboneSpec
from trainer.config import TrainerConfig
from trainer.duties import fast_path
from trainer.heartbeat import Heartbeat
from trainer.intake.claims import Claims
from trainer.intake.images import load_task
from trainer.learning.config import LearnerConfig, ValidationConfig
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.store.shelves import Shelves
from trainer.term import Term
from trainer.worker import Worker

QUEUE = QueueConfig(lease_s=1.5)
SLOW = LearnerConfig(least_images=0, slots=4, epochs=10, enough=1.1, least_steps=0, batch=4, settled=100)
FAST = LearnerConfig(least_images=0, slots=4, epochs=2, least_steps=0, batch=8, settled=100)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What befalls a trainer.

    spare_memory: bytes it may take beyond what it starts with.  deadly: name of a task that kills it when it is loaded.
    untrainable: a label that kills it when its training begins.
    """

    spare_memory: int | None = None
    deadly: str | None = None
    untrainable: str | None = None


class Bench:
    """A queue, a store and whatever trainers a test starts on them."""

    def __init__(self, redis: Redis, url: str, root: Path, weights: Path) -> None:
        self.root = root
        self.queue = WorkQueue(redis, BlobStore(root / "blobs"), QUEUE)
        self.registry = Registry(redis, root / "versions")
        self.spec = BackboneSpec("test_vit2", weights, 32)
        self.url = url

    def config(self, learner: LearnerConfig, consumer: str = "one", least_images: int = 50) -> TrainerConfig:
        return TrainerConfig(
            self.url,
            self.root,
            backbone=self.spec,
            learner=learner,
            consumer=consumer,
            validation=ValidationConfig(share=0.1, least_images=least_images),
            queue=QUEUE,
            max_pixels=150_000_000,
            threads=1,
        )

    def submit(self, task: Task) -> str:
        samples = []
        for pixels, label in zip(task.pixels, task.labels, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
            samples.append(Sample(self.queue.blobs.put(buffer.getvalue()), label))
        return self.queue.submit(task.id, samples).task.id

    def submit_image(self, side: int) -> str:
        """A task of one black square that takes four bytes a pixel to decode."""
        buffer = io.BytesIO()
        Image.new("1", (side, side)).save(buffer, "PNG")
        sample = Sample(self.queue.blobs.put(buffer.getvalue()), "black")
        return self.queue.submit("huge", [sample]).task.id

    def wait(self, task: str, ready: Callable[[TaskRecord], bool]) -> TaskRecord:
        deadline = time.monotonic() + 120
        while not ready(record := self.queue.get(task)):
            assert time.monotonic() < deadline, f"still {record}"
            time.sleep(0.01)
        return record

    def wait_for(self, task: str, state: TaskState) -> TaskRecord:
        return self.wait(task, lambda record: record.state == state)

    @contextmanager
    def trainer(
        self,
        learner: LearnerConfig = FAST,
        least_images: int = 50,
        max_pending_mb: int = 64,
        queue: QueueConfig = QUEUE,
    ) -> Iterator[None]:
        config = self.config(learner, "one", least_images)
        config = replace(config, max_pending_mb=max_pending_mb, queue=queue)
        stop = threading.Event()
        thread = threading.Thread(target=lambda: Worker.open(config).run(stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    @contextmanager
    def term(self) -> Iterator[Term]:
        """A trainer's term that a test goes through step by step."""
        config = self.config(FAST)
        network = RetrievalViT(load_backbone(self.spec), config.loop)
        lease = Lease(self.queue.redis, QUEUE.prefix, QUEUE.lease_s)
        token = lease.acquire()
        assert token is not None
        claims = Claims(self.queue, token, config)
        with Heartbeat(lease, token) as heartbeat:
            shelves = Shelves.open(self.root)
            yield Term(network, claims, self.registry, shelves, heartbeat, threading.Event())
        lease.release(token)

    def process(self, learner: LearnerConfig, consumer: str) -> ForkServerProcess:
        process = forking().Process(target=train_until_killed, args=(self.config(learner, consumer),))
        process.start()
        return process

    @contextmanager
    def supervised(self, learner: LearnerConfig, trouble: Trouble) -> Iterator[None]:
        """A trainer that is started again whenever it dies."""
        keeper = forking().Process(target=keep_training, args=(self.config(learner), trouble))
        keeper.start()
        try:
            yield
        finally:
            keeper.terminate()
            keeper.join()

    def consolidated(self) -> Manifest | None:
        """The consolidated version that the one served is or descends from."""
        version = self.registry.current()
        while version is not None:
            manifest = self.registry.shelf.manifest(version)
            if manifest.kind == "consolidated":
                return manifest
            version = manifest.below
        return None

    def state(self) -> LearnerState:
        newest = self.consolidated()
        assert newest is not None
        return LearnerState.load(self.registry.shelf.path(newest.version, "learner"))


def forking() -> ForkServerContext:
    """Processes that are forks of one that has everything imported, which takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with mock.patch.dict(os.environ, {"MALLOC_ARENA_MAX": "1"}):  # or each thread reserves 64 MiB
        forkserver.ensure_running()
    return context


def train_until_killed(config: TrainerConfig) -> None:
    torch.set_num_threads(1)
    Worker.open(config).run(threading.Event())


def keep_training(config: TrainerConfig, trouble: Trouble) -> None:
    """One life of the trainer after another, each a fork of this process."""
    torch.set_num_threads(1)
    child = 0

    def end(*_: object) -> None:
        if child:
            os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            live(config, trouble)
        finally:
            os._exit(1)


def live(config: TrainerConfig, trouble: Trouble) -> None:
    if trouble.spare_memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + trouble.spare_memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def load(task: TaskRecord, *rest: Any) -> Task:
        if task.name == trouble.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return load_task(task, *rest)

    def consolidate(self: Learner, state: LearnerState, task: Task, *rest: Any) -> LearnerState:
        if trouble.untrainable in task.labels:
            os.kill(os.getpid(), signal.SIGKILL)
        return learned(self, state, task, *rest)

    learned = Learner.consolidate
    Learner.consolidate = consolidate  # type: ignore[method-assign]
    fast_path.load_task = load  # type: ignore[assignment]
    Worker.open(config).run(threading.Event())


def learn(bench: Bench, term: Term, task: Task) -> str:
    """Have a task learned for good; its id."""
    made = bench.submit(task)
    term.accept_waiting(block_ms=0)
    term.consolidation.consolidate(term.claims.pending[0])
    return made


def order(bench: Bench, label: str, becomes: str | None = None) -> str:
    return bench.queue.order(LabelChange(label, becomes)).task.id


def carry_out(term: Term) -> None:
    """Take what waits, and have the orders carried out whose turn it is."""
    term.accept_waiting(block_ms=0)
    while due := term.claims.due:
        term.carry_out(due)
