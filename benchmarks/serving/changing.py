"""Figures of versions that change: starting, swapping under load, knowing more and more tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from threading import Event

import httpx
import psutil

from benchmarks.serving.bench import ratio
from benchmarks.serving.client import Measured, percentile
from benchmarks.serving.scene import Scene, ask, photographs
from benchmarks.serving.subjects import PATIENCE_S, Effort, Figures, Versions, ours

SETTLED = 50
"""Swaps after which memory is taken to have settled."""
LOAD = 0.3
"""Of what the bare runtime can do, while versions are swapped."""
EVERY_S = 0.12
"""Between two swaps: a trainer publishes every few seconds at most."""
TASK = 10
"""Classes of a task, and slots where it brings some."""


def starting(scene: Scene, effort: Effort) -> Figures:
    """From starting the process to ready, its runtime chosen by measurement as by default."""
    times = []
    for _ in range(effort.rounds):
        with ours(replace(scene, runtime="auto"), "product") as server:
            times.append(server.ready_s)
    return {"start_to_ready_s": median(times), "starts": len(times)}


def swaps(port: int, pid: int, versions: Versions, capacity: float, effort: Effort) -> Figures:
    """The pointer goes back and forth under an open load, in turns with the same load and the same asking without that.

    Who asks until the new version answers adds requests of its own: as many are asked where nothing changes.
    """
    numbers = [versions.publish(versions.checkpoint(100, 100)).version for _ in range(2)]
    process, memory, waits = psutil.Process(pid), list[int](), list[float]()
    how: Figures = {"connections": 64, "rate": LOAD * capacity, "warm_up_s": 0.5}
    still, moving = Measured(0), Measured(0)
    # Even, so that every round ends with the version it began with.
    each = max(2, effort.swaps // effort.rounds // 2 * 2)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as caller:
        for _ in range(effort.rounds):
            asked = []
            with background_load(port, how, moving):
                for turn in paced(each):
                    version = numbers[turn % 2]
                    began = time.perf_counter()
                    versions.registry.activate(version)
                    asked.append(wait_for(caller, version))
                    waits.append(1000 * (time.perf_counter() - began))
                    memory.append(process.memory_info().rss)
            with background_load(port, how, still):
                for turn in paced(each):
                    for _ in range(asked[turn]):
                        wait_for(caller, numbers[1])
    without, during = (percentile(one.latencies_ms, 99) for one in (still, moving))
    return {
        "swaps": len(waits),
        "answered": moving.answered,
        "failed": moving.failed,
        "p99_ms_without": without,
        "p99_ms_during": during,
        "p99_ratio": during / without,
        "pointer_to_first_answer_ms_p50": median(waits),
        "pointer_to_first_answer_ms_p99": percentile(waits, 99),
        "memory_growth": memory[-1] / memory[min(SETTLED, len(memory) // 2)] - 1,
    }


def paced(turns: int) -> Iterator[int]:
    """0, 1, ..., one every `EVERY_S` where the work in between allows it."""
    due = time.perf_counter()
    for turn in range(turns):
        yield turn
        due += EVERY_S
        time.sleep(max(0.0, due - time.perf_counter()))


def wait_for(caller: httpx.Client, version: int) -> int:
    """Ask until an answer is by this version. How often that took. Raises TimeoutError."""
    photo, kind = photographs(1)[0], {"Content-Type": "image/jpeg"}
    ends, asked = time.monotonic() + PATIENCE_S, 1
    while caller.post("/classify", content=photo, headers=kind).json()["version"] != version:
        asked += 1
        if time.monotonic() > ends:
            raise TimeoutError(f"version {version} did not answer within {PATIENCE_S} s")
    return asked


@contextmanager
def background_load(port: int, how: Figures, total: Measured) -> Iterator[None]:
    """An open load from its own process while the block runs. What came of it is added to `total` after the block."""
    stop, photos = Event(), photographs(32)

    def run() -> list[Measured]:
        found = []
        while not stop.is_set():
            found.append(ask(port, photos, seconds=4, **how))
        return found

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield
        finally:
            stop.set()
            for one in running.result():
                total.answered += one.answered
                total.failed += one.failed
                total.latencies_ms += one.latencies_ms


def scale(port: int, versions: Versions, effort: Effort) -> Figures:
    """One caller, versions that know more and more tasks of ten classes each.

    Each task with ten slots of its own; and as the defaults learn, where only the first brings slots.
    """
    sizes = {size for tasks in effort.tasks for size in ((TASK * tasks, TASK * tasks), (TASK, TASK * tasks))}
    numbers = {size: versions.publish(versions.checkpoint(*size)).version for size in sorted(sizes)}
    photos, found = photographs(32), {size: list[float]() for size in numbers}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as caller:
        for _ in range(effort.rounds):
            for size, version in numbers.items():
                versions.registry.activate(version)
                wait_for(caller, version)
                found[size].append(median(ask(port, photos, seconds=effort.seconds / 2).latencies_ms))
    return curves(found)


def curves(found: Mapping[tuple[int, int], Sequence[float]]) -> Figures:
    """Latencies by (slots, classes) as two curves over tasks, each over that of the fewest."""
    base = found[min(found)]

    def curve(measured: Mapping[tuple[int, int], Sequence[float]]) -> Figures:
        return {
            f"tasks_{classes // TASK}": {"latency_p50_ms": median(values), "over_1": ratio(values, base)}
            for (_, classes), values in measured.items()
        }

    with_slots = {size: values for size, values in found.items() if size[0] == size[1]}
    settled = {size: values for size, values in found.items() if size[0] == min(found)[0]}
    return {**curve(with_slots), "as_the_defaults_learn": curve(settled)}
