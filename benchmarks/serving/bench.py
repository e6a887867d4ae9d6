"""The figures, one function each. Ratios compare what was measured in turns within one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any

import httpx
import psutil

from benchmarks.serving.client import Measured, percentile
from benchmarks.serving.models import load_torch, version_of
from benchmarks.serving.scene import Child, Scene, ask, child, multipart, packed, photographs, stored
from exchange.connection import connect
from exchange.records import Backbone, Manifest
from exchange.registry import Registry
from model.checkpoint import Checkpoint

PATIENCE_S = 180
OURS = "benchmarks.serving.ours"
BARE = "benchmarks.serving.bare"
BUDGETS = ("", "?tmax=1", "?tmax=2&topk=3", "?tmax=3&epsilon=2", "?epsilon=5", "?tmax=4&topk=20")

Figures = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """seconds: of each measurement.  rounds: measurements in turns.

    swaps: versions swapped under load.  tasks: how many a version knows, one after the other.
    shares: open loads beside other servers, of what the bare runtime can do.  models: what is served there.
    """

    seconds: float
    rounds: int
    swaps: int
    tasks: tuple[int, ...]
    shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    models: tuple[str, ...] = ("looped", "nothing", "torch")


@dataclass(frozen=True)
class Ours:
    """A running server of ours. ready_s: from starting the process to /readyz."""

    port: int
    pid: int
    ready_s: float


class Versions:
    """Publishes versions as a trainer does."""

    def __init__(self, scene: Scene) -> None:
        self.registry = Registry(connect(scene.redis_url), Path(scene.store) / "versions", "hippotune")
        self._scene, self._beside = scene, load_torch(scene)
        self.px = self._beside.identity.px

    def checkpoint(self, slots: int, classes: int) -> Checkpoint:
        return version_of(replace(self._scene, slots=slots, classes=classes), self._beside)

    def publish(self, checkpoint: Checkpoint) -> Manifest:
        identity, current = checkpoint.identity, self.registry.current()
        return self.registry.publish(
            kind="consolidated",
            parent=current,
            backbone=Backbone(identity.name, identity.px, identity.sha256),
            labels=checkpoint.labels,
            consolidated=("sample",),
            fast=(),
            slots=checkpoint.pools.slots,
            metrics={},
            files={"serving": checkpoint.save},
            expected=current,
        )


@contextmanager
def ours(scene: Scene, model: str) -> Iterator[Ours]:
    """Our server, once it is ready."""
    began = time.perf_counter()
    with child(replace(scene, model=model), OURS) as server:
        port = int(server.told["port"])
        wait_ready(port, "/readyz")
        yield Ours(port, int(server.told["pid"]), time.perf_counter() - began)


def wait_ready(port: int, path: str) -> None:
    """Until a GET succeeds. Raises TimeoutError."""
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        try:
            if httpx.get(f"http://127.0.0.1:{port}{path}").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"nothing answers at {path} of port {port}")


def wait_answering(told: Figures) -> None:
    """Until a photograph is answered. Raises TimeoutError."""
    (body,), kind = packed(photographs(1), told)
    port, path = told["port"], told["path"]
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}{path}", content=body, headers={"Content-Type": kind}, timeout=30
            )
            if answer.is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"nothing answers at {path} of port {port}")


def in_turns(rounds: int, measure: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each measured `rounds` times, one after the other, so that a busy moment hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in measure}
    for _ in range(rounds):
        for name, one in measure.items():
            found[name].append(one())
    return found


def ratio(ours_: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over rounds."""
    return median(mine / other for mine, other in zip(ours_, theirs, strict=True))


def bare(process: Child, batch: int, seconds: float) -> float:
    return float(process.ask(f"{batch} {seconds}"))


def throughput(scene: Scene, px: int, effort: Effort) -> Figures:
    """At saturation, against the bare runtime, the plain transformer, and nothing at all."""
    batch, busy = scene.max_batch, 2 * scene.max_batch
    photos, ready = photographs(32), stored(px, 8)
    parts = [multipart(photo, "file") for photo in photos]

    def saturated(port: int, images: Sequence[bytes], media_type: str) -> Callable[[], float]:
        def measure() -> float:
            return ask(
                port, images, media_type=media_type, connections=busy, seconds=effort.seconds
            ).per_second

        return measure

    with ExitStack() as stack:
        looped = stack.enter_context(child(replace(scene, model="looped"), BARE))
        ports = {
            model: stack.enter_context(ours(scene, model)).port for model in ("looped", "plain", "nothing")
        }
        measure = {
            "bare": lambda: bare(looped, batch, effort.seconds),
            "preprocessed": saturated(ports["looped"], ready, "image/png"),
            "jpeg": saturated(ports["looped"], photos, "image/jpeg"),
            "multipart": saturated(ports["looped"], [body for body, _ in parts], parts[0][1]),
            "plain_vit": saturated(ports["plain"], photos, "image/jpeg"),
            "nothing": saturated(ports["nothing"], photos, "image/jpeg"),
        }
        found = in_turns(effort.rounds, measure)
    return {
        "batch": batch,
        "connections": busy,
        "images_per_second": {name: median(values) for name, values in found.items()},
        "preprocessed_over_bare": ratio(found["preprocessed"], found["bare"]),
        "jpeg_over_bare": ratio(found["jpeg"], found["bare"]),
        "looped_over_plain_vit": ratio(found["jpeg"], found["plain_vit"]),
    }


def alone(port: int, effort: Effort) -> Figures:
    """One caller, one image at a time: what of the latency is not compute."""
    photos = photographs(32)
    rounds = [ask(port, photos, compute=True, seconds=effort.seconds) for _ in range(effort.rounds)]
    return {
        "overhead_p50_ms": median(median(one.overheads_ms) for one in rounds),
        "overhead_p99_ms": median(percentile(one.overheads_ms, 99) for one in rounds),
        "latency_p50_ms": median(median(one.latencies_ms) for one in rounds),
        "requests": sum(one.answered for one in rounds),
    }


def loads(told: Figures, capacity: float, effort: Effort) -> Figures:
    """Latency at open loads, as shares of what the bare runtime can do.  told: port, path, and see `packed`."""
    port, path = told["port"], told["path"]
    photos, kind = packed(photographs(32), told)
    found = {}
    for share in effort.shares:
        one = ask(
            port, photos, [path], kind, connections=256, rate=share * capacity, seconds=2 * effort.seconds
        )
        found[f"load_{share}"] = one.summary()
    full = ask(port, photos, [path], kind, connections=64, seconds=effort.seconds)
    return {"saturated": full.summary(), **found}


def mixed_budgets(port: int, scene: Scene, effort: Effort) -> Figures:
    """The same server asked with one budget and with six at once."""
    photos, busy = photographs(32), 2 * scene.max_batch

    def asked(paths: Sequence[str]) -> Callable[[], float]:
        return lambda: ask(port, photos, paths, connections=busy, seconds=effort.seconds).per_second

    uniform, mixed = asked(["/classify?tmax=3"]), asked([f"/classify{budget}" for budget in BUDGETS])
    found = in_turns(effort.rounds, {"uniform": uniform, "mixed": mixed})
    return {name: median(values) for name, values in found.items()} | {
        "mixed_over_uniform": ratio(found["mixed"], found["uniform"])
    }


def swaps(port: int, pid: int, versions: Versions, rate: float, effort: Effort) -> Figures:
    """The pointer goes back and forth under an open load."""
    photos = photographs(32)
    numbers = [versions.publish(versions.checkpoint(100, 100)).version for _ in range(2)]
    how: Figures = {"connections": 64, "rate": rate}
    before = ask(port, photos, seconds=2 * effort.seconds, **how)
    process, memory, waits = psutil.Process(pid), [], []
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as caller,
        BackgroundLoad(port, photos, how) as load,
    ):
        for turn in range(effort.swaps):
            version = numbers[turn % 2]
            began = time.perf_counter()
            versions.registry.activate(version)
            while (
                caller.post("/classify", content=photos[0], headers={"Content-Type": "image/jpeg"}).json()[
                    "version"
                ]
                != version
            ):
                pass
            waits.append(1000 * (time.perf_counter() - began))
            memory.append(process.memory_info().rss)
    settled = memory[min(50, len(memory) // 2)]
    return {
        "swaps": effort.swaps,
        "answered": load.measured.answered,
        "failed": load.measured.failed,
        "p99_ms_before": percentile(before.latencies_ms, 99),
        "p99_ms_during": percentile(load.measured.latencies_ms, 99),
        "p99_ratio": percentile(load.measured.latencies_ms, 99) / percentile(before.latencies_ms, 99),
        "pointer_to_first_answer_ms_p50": median(waits),
        "pointer_to_first_answer_ms_p99": percentile(waits, 99),
        "memory_growth": memory[-1] / settled - 1,
    }


def scale(port: int, versions: Versions, effort: Effort) -> Figures:
    """One caller, versions that know more and more tasks of ten slots and ten classes each."""
    numbers = {
        tasks: versions.publish(versions.checkpoint(10 * tasks, 10 * tasks)).version for tasks in effort.tasks
    }
    photos, found = photographs(32), {tasks: list[float]() for tasks in numbers}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as caller:
        for _ in range(effort.rounds):
            for tasks, version in numbers.items():
                versions.registry.activate(version)
                while caller.get("/readyz").json()["version"] != version:
                    time.sleep(0.01)
                found[tasks].append(median(ask(port, photos, seconds=effort.seconds).latencies_ms))
    base = found[min(found)]
    return {
        f"tasks_{tasks}": {"latency_p50_ms": median(values), "over_1": ratio(values, base)}
        for tasks, values in found.items()
    }


class BackgroundLoad:
    """An open load from its own process while the block runs."""

    def __init__(self, port: int, images: Sequence[bytes], how: Figures) -> None:
        self._port, self._images, self._how = port, images, how
        self._pool = ThreadPoolExecutor(1)
        self.measured = Measured(0)

    def __enter__(self) -> BackgroundLoad:
        self._stop = Event()
        self._running = self._pool.submit(self._run)
        return self

    def _run(self) -> list[Measured]:
        found = []
        while not self._stop.is_set():
            found.append(ask(self._port, self._images, seconds=2, warm_up_s=0.2, **self._how))
        return found

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._running.result():
            self.measured.answered += one.answered
            self.measured.failed += one.failed
            self.measured.latencies_ms += one.latencies_ms
        self._pool.shutdown()
