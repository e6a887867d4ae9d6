"""The trainer process: claims tasks, learns them fast and then for good, publishes a version after each.

A task that arrives while another is being consolidated does not wait: its fast version is learned in between, at the
next training step. Only when a task is consolidated is it acknowledged; until then a crash gives it to the next
worker, which starts from the last published version and from the last finished epoch.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import torch

from exchange.blobs import BlobStore
from exchange.connection import connect
from exchange.errors import BlobCorrupt, BlobMissing, ExchangeUnavailable, PointerMoved
from exchange.queue import QueueConfig, TaskQueue
from exchange.records import Claim, TaskState
from exchange.registry import Registry
from model.backbone import load_backbone
from model.checkpoint import InvalidCheckpoint
from model.network import RetrievalViT
from trainer.config import TrainerConfig
from trainer.data import UnusableTask, load_task
from trainer.epochs import EpochState
from trainer.heartbeat import Heartbeat
from trainer.learner import Learner, Task
from trainer.lineage import Base, Lineage
from trainer.state import LearnerState

log = structlog.get_logger()

POLL_SECONDS = 0.2
"""How often training looks up for new tasks and for a request to stop."""


class Stopping(Exception):
    """Raised inside training when the worker was asked to stop."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A claimed task, served by the fast head, waiting to be consolidated."""

    claim: Claim
    task: Task


class Worker:
    """Owns what one trainer knows: the base state, and the fast state served on top of it."""

    def __init__(
        self,
        learner: Learner,
        queue: TaskQueue,
        registry: Registry,
        blobs: BlobStore,
        config: TrainerConfig,
        stop: threading.Event,
    ) -> None:
        self.learner, self.queue, self.registry, self.blobs = learner, queue, registry, blobs
        self.config, self.stop = config, stop
        self.lineage = Lineage(registry, learner)
        self.heartbeat = Heartbeat(queue)
        self.epochs = config.store / "epochs"
        self.epochs.mkdir(parents=True, exist_ok=True)
        self.base = self.lineage.load()
        self.serving = self.base.state
        self.pending: list[Pending] = []
        self.looked_up = 0.0

    def run(self) -> None:
        """Work until asked to stop; what is unfinished then goes back to the queue."""
        with self.heartbeat:
            while not self.stop.is_set():
                try:
                    self.turn()
                except ExchangeUnavailable as error:
                    log.warning("queue unreachable, waiting", error=str(error))
                    self.stop.wait(1.0)
                except Stopping:
                    break
            for pending in self.pending:
                self.heartbeat.drop(pending.claim)
                with contextlib.suppress(ExchangeUnavailable):
                    self.queue.release(pending.claim)

    def turn(self) -> None:
        """Take what waits, then consolidate the oldest task there is."""
        self.accept_waiting(block_ms=0 if self.pending else 1000)
        if not self.pending:
            return
        try:
            self.consolidate(self.pending[0])
        except PointerMoved:
            # Somebody rolled back or forward: build on what is served now.
            self.rebase()

    def accept_waiting(self, block_ms: int) -> None:
        """Learn every waiting task with the fast head."""
        while claim := self.queue.claim(self.config.consumer, block_ms):
            self.heartbeat.add(claim)
            self.accept(claim)
            block_ms = 0

    def accept(self, claim: Claim) -> None:
        """Load a task, learn it fast, serve it."""
        if claim.task.id in self.base.state.tasks:
            self.queue.update(claim.task.id, state=TaskState.CONSOLIDATED, progress=1.0)
            self.finish(claim)  # delivered again after it was learned: the crash came before the acknowledgement
            return
        started = time.monotonic()
        self.queue.update(claim.task.id, state=TaskState.LEARNING)
        try:
            task = load_task(
                claim, self.blobs, self.learner.network.backbone.px, self.config.max_pixels, torch.get_num_threads()
            )
        except (UnusableTask, BlobMissing, BlobCorrupt) as error:
            self.heartbeat.drop(claim)
            self.queue.fail(claim, str(error))
            return
        if self.registry.current() != self.base.version:
            self.rebase()
        self.serving = self.learner.learn_fast(self.serving, task)
        self.pending.append(Pending(claim, task))
        try:
            version = self.publish({"seconds_to_fast": time.monotonic() - started}, consolidated=False)
        except PointerMoved:
            self.rebase()
            version = self.publish({}, consolidated=False)
        self.queue.update(claim.task.id, state=TaskState.SERVED, version=version)

    def consolidate(self, pending: Pending) -> None:
        """Train a task's slots and serve the result in place of its fast version."""
        task, started = pending.task, time.monotonic()
        saved = self.epochs / f"{task.id}.safetensors"
        figures: dict[str, float] = {}

        def progress(share: float, now: dict[str, float]) -> None:
            figures.update(now)
            if time.monotonic() - self.looked_up < POLL_SECONDS and share < 1:
                return
            if self.stop.is_set():
                raise Stopping
            self.queue.update(task.id, state=TaskState.CONSOLIDATING, progress=share, metrics=now)
            self.accept_waiting(block_ms=0)
            self.looked_up = time.monotonic()

        state = self.learner.consolidate(
            self.base.state, task, progress, lambda epoch: save_epoch(epoch, saved), load_epoch(saved)
        )
        self.pending.remove(pending)
        base, serving = self.base, self.serving
        self.base, self.serving = replace(base, state=state), self.with_pending(state)
        figures["seconds_to_consolidate"] = time.monotonic() - started
        try:
            version = self.publish(figures, consolidated=True)
        except PointerMoved:
            self.base, self.serving = base, serving
            self.pending.insert(0, pending)
            raise
        self.queue.update(task.id, state=TaskState.CONSOLIDATED, progress=1.0, metrics=figures, version=version)
        self.finish(pending.claim)
        saved.unlink(missing_ok=True)
        self.registry.prune(self.config.keep_versions)

    def with_pending(self, state: LearnerState) -> LearnerState:
        """A base state plus the fast heads of everything still waiting to be consolidated."""
        for pending in self.pending:
            state = self.learner.learn_fast(state, pending.task)
        return state

    def rebase(self) -> None:
        """Start again from the version that is served now."""
        self.base = self.lineage.load()
        self.serving = self.with_pending(self.base.state)
        log.info("building on another version", version=self.base.version)

    def publish(self, metrics: dict[str, float], *, consolidated: bool) -> int:
        fast = [pending.task.id for pending in self.pending]
        manifest = self.lineage.publish(self.base, self.serving, fast, metrics, consolidated)
        self.base = Base(self.base.state, manifest.version)
        log.info("published", version=manifest.version, kind=manifest.kind, labels=len(manifest.labels))
        return manifest.version

    def finish(self, claim: Claim) -> None:
        self.heartbeat.drop(claim)
        self.queue.finish(claim)


def save_epoch(epoch: EpochState, path: Path) -> None:
    """Make an epoch the one to resume from: whole or not at all."""
    temporary = path.with_suffix(".part")
    epoch.save(temporary)
    os.replace(temporary, path)


def load_epoch(path: Path) -> EpochState | None:
    """The epoch to resume from, if there is a readable one."""
    try:
        return EpochState.load(path) if path.exists() else None
    except InvalidCheckpoint as error:
        log.warning("starting the task over", reason=str(error))
        return None


def run(config: TrainerConfig, stop: threading.Event) -> None:
    """Run one trainer until `stop` is set.

    Raises UnsupportedBackbone, BackboneChanged and FileNotFoundError for settings that cannot work.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    redis = connect(config.redis_url)
    blobs = BlobStore(config.store / "blobs")
    network = RetrievalViT(load_backbone(config.backbone), config.loop).to(config.device)
    queue = TaskQueue(redis, blobs, QueueConfig())
    worker = Worker(
        Learner(network, config.learner), queue, Registry(redis, config.store / "versions"), blobs, config, stop
    )
    log.info("trainer ready", backbone=network.backbone.identity.name, version=worker.base.version)
    worker.run()
