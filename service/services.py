"""What the routes work with, built once per app and handed to them by FastAPI."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter, WouldBlock, to_thread
from fastapi import Depends, Path, Request

from exchange.blobs import BlobStore
from exchange.manifests import Manifest
from exchange.queue import TaskQueue
from exchange.records import TaskRecord
from exchange.registry import Registry
from exchange.tasks import TaskReader
from service.config import ServiceConfig
from service.engine.batching import Engine
from service.engine.memory import SharedMemory
from service.engine.snapshot import Served, Snapshot
from service.engine.watcher import Watcher
from service.http.etags import KeptBodies
from service.http.lifecycle import Lifecycle
from service.http.problems import Problem
from service.http.receive import Bodies
from service.metrics import Metrics
from service.runtimes.base import Runtime
from service.turns import InTurns


@contextmanager
def place(places: CapacityLimiter, all_taken: str) -> Iterator[None]:
    """Hold one of the places. Raises Problem 429 with `all_taken` when there is none."""
    holder = object()
    try:
        places.acquire_on_behalf_of_nowait(holder)
    except WouldBlock:
        raise Problem(429, all_taken) from None
    try:
        yield
    finally:
        places.release_on_behalf_of(holder)


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running server.

    threads: CPU threads of the forward pass, and as many of decoding.
    queue_view, registry_view: queue and registry for whatever only looks: they soon say that Redis does not answer.
    bodies, uploads: what requests to classify, and forms of tasks, hold in memory.
    decoders: threads that decode images, and parse what would hold up the event loop.
    task_decoders: the way of tasks' images to those threads.
    submissions, streams: places for POST /tasks and for event streams.
    kept: answers that many ask for again and again.
    patient: threads for calls that wait for a Redis that does not answer, so that they take none from what only looks.
    """

    config: ServiceConfig
    metrics: Metrics
    lifecycle: Lifecycle
    threads: int
    runtime: Runtime
    served: Served
    engine: Engine
    watcher: Watcher
    queue: TaskQueue
    blobs: BlobStore
    registry: Registry
    queue_view: TaskReader
    registry_view: Registry
    memory: SharedMemory
    bodies: Bodies
    uploads: Bodies
    decoders: ThreadPoolExecutor
    task_decoders: InTurns
    submissions: CapacityLimiter
    streams: CapacityLimiter
    kept: KeptBodies
    patient: CapacityLimiter

    @property
    def px(self) -> int:
        """Side of the square input."""
        return self.runtime.identity.px

    @property
    def runtime_name(self) -> str:
        """What computes the answers of the version that is served, or would while there is none."""
        snapshot = self.served.snapshot
        return self.runtime.name if snapshot is None else snapshot.classifier.name

    @property
    def serving_version(self) -> int | None:
        """The version that answers; None before anything was learned."""
        snapshot = self.served.snapshot
        return None if snapshot is None else snapshot.version

    def current_manifest(self) -> Manifest | None:
        """What the version pointed to is and knows; of the disk only where it is not in memory. None before the first.

        Raises ExchangeUnavailable and VersionError.
        """
        version = self.registry.current()
        return None if version is None else self.manifest(version)

    def manifest(self, version: int) -> Manifest:
        """What a version is and knows; of the disk only where it is not in memory.

        Raises ExchangeUnavailable and VersionError.
        """
        loaded = self.served.loaded(version)
        return self.registry_view.manifest(version) if loaded is None else loaded.manifest

    def require_open(self) -> None:
        """Raise Problem 503 while draining."""
        if self.lifecycle.draining:
            raise Problem(503, "the server is shutting down")

    def require_alive(self) -> None:
        """Raise Problem 503 when nothing but a new process helps."""
        if not (self.engine.alive and self.watcher.alive):
            raise Problem(503, "a thread of the server has ended; restart it")

    def require_ready(self) -> None:
        """Raise Problem 503 when requests should be sent elsewhere, even where one would still be answered."""
        if self.lifecycle.unready:
            raise Problem(503, "the server is about to shut down")
        self.require_able()

    def require_able(self) -> None:
        """Raise Problem 503 when something keeps /classify from answering."""
        self.require_open()
        if not self.engine.alive:
            raise Problem(503, "the engine has ended")
        if self.watcher.lost:
            told = "Redis names no version, and the store holds some: a trainer makes the newest intact one current"
            raise Problem(503, told)
        if not self.watcher.caught_up:
            told = "the version to serve is being loaded, or Redis was not reached to learn which it is"
            raise Problem(503, told)
        if (refusal := self.watcher.unserved) is not None:  # teaching would not help
            raise Problem(503, f"version {refusal.version} is refused: {refusal.reason}")

    def able_snapshot(self, untaught: int) -> Snapshot:
        """The version being served. Raises Problem 503 when not able, `untaught` when there is none to serve."""
        self.require_able()
        snapshot = self.served.snapshot
        if snapshot is None or not snapshot.labels:
            raise Problem(untaught, "nothing learned yet; POST /tasks or `hippotune submit` first")
        return snapshot


async def get_services(request: Request) -> Services:
    return request.app.state.services


TheServices = Annotated[Services, Depends(get_services)]

TaskId = Annotated[str, Path(description="As `POST /tasks` answered it.")]


async def existing_task(id: TaskId, services: TheServices) -> TaskRecord:  # noqa: A002 - the path's own name
    """Raises TaskNotFound."""
    return await to_thread.run_sync(services.queue_view.get, id)


ExistingTask = Annotated[TaskRecord, Depends(existing_task)]
"""The task that a path names."""
