"""What is measured: our server as a process, and versions published for it as a trainer does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving.models import load_torch, version_of
from benchmarks.serving.scene import Child, Scene, child, packed, photographs
from exchange.connection import connect
from exchange.manifests import SERVING, BackboneRecord, Draft, Manifest
from exchange.registry import Registry
from model.checkpoint import Checkpoint

PATIENCE_S = 180
OURS = "benchmarks.serving.our_server"
BARE = "benchmarks.serving.bare"

Figures = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """seconds: of each measurement.  rounds: measurements in turns.

    swaps: versions swapped under load.  tasks: how many a version knows, one after the other.
    shares: open loads beside other servers, of what the bare runtime can do.
    """

    seconds: float
    rounds: int
    swaps: int
    tasks: tuple[int, ...]
    shares: tuple[float, ...] = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Ours:
    """A running server of ours. ready_s: from starting the process to /readyz."""

    port: int
    pid: int
    ready_s: float

    @property
    def told(self) -> Figures:
        """How it wants to be asked, as the other servers tell it."""
        return {"port": self.port, "path": "/classify", "field": None}


class Versions:
    """Publishes versions as a trainer does."""

    def __init__(self, scene: Scene) -> None:
        self.registry = Registry(connect(scene.redis_url), Path(scene.store) / "versions", "hippotune")
        self._scene, self._beside = scene, load_torch(scene)
        self.px = self._beside.identity.px

    def checkpoint(self, slots: int, classes: int) -> Checkpoint:
        return version_of(replace(self._scene, slots=slots, classes=classes), self._beside)

    def publish(self, checkpoint: Checkpoint) -> Manifest:
        draft = Draft(
            kind="consolidated",
            parent=self.registry.current(),
            backbone=BackboneRecord.of(checkpoint.identity),
            labels=checkpoint.labels,
            consolidated=("sample",),
            fast=(),
            slots=checkpoint.pools.slots,
            metrics={},
        )
        return self.registry.publish(draft, {SERVING: checkpoint.save})


@contextmanager
def ours(scene: Scene, model: str) -> Iterator[Ours]:
    """Our server, once it is ready."""
    began = time.perf_counter()
    with child(replace(scene, model=model), OURS) as server:
        port = int(server.told["port"])
        wait_ready(port)
        yield Ours(port, int(server.told["pid"]), time.perf_counter() - began)


def wait_ready(port: int) -> None:
    """Until our server says so. Raises TimeoutError."""
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"port {port} was not ready within {PATIENCE_S} s")


def wait_answering(told: Figures) -> None:
    """Until a photograph is answered. Raises TimeoutError."""
    (body,), kind = packed(photographs(1), told)
    address, why = f"http://127.0.0.1:{told['port']}{told['path']}", "nothing listens"
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        try:
            answer = httpx.post(address, content=body, headers={"Content-Type": kind}, timeout=30)
            if answer.is_success:
                return
            why = f"{answer.status_code} {answer.text[:200]}"
        except httpx.HTTPError as error:
            why = repr(error)
        time.sleep(0.2)
    raise TimeoutError(f"no photograph was answered at {address} within {PATIENCE_S} s: {why}")


def bare(process: Child, batch: int, seconds: float) -> float:
    """Images a second of the bare runtime."""
    return float(process.ask(f"{batch} {seconds}"))


def capacity(scene: Scene, seconds: float) -> float:
    """The same, of a process for this alone."""
    with child(replace(scene, model="looped"), BARE) as process:
        return bare(process, scene.max_batch, seconds)
