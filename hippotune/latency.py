"""Latency of a server as its callers see it."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Event
from typing import TypeVar, cast

from hippotune.calls import Ask
from hippotune.client import Client
from hippotune.errors import HippoTuneError

T = TypeVar("T")

WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from sending a request to having its answer; failed requests are counted, not timed.

    per_second: answers a second of this measurement, all its callers together.
    keep: mean share of image tokens kept apart, as granted.
    """

    p50: float
    p99: float
    mean: float
    per_second: float
    failed: int
    keep: float


def latency(
    client: Client, images: Sequence[bytes], budgets: Sequence[Ask], requests: int, concurrency: int = 1
) -> list[Latency]:
    """Latency at each of `budgets`, which take turns request by request.

    The first few requests of each budget warm caches and are left out. Raises HippoTuneError if all fail.
    """

    def ask(turn: int) -> tuple[float, float] | None:
        """Milliseconds and the share of tokens kept; None for a request that failed."""
        image, budget = images[turn // len(budgets) % len(images)], budgets[turn % len(budgets)]
        started = time.perf_counter()
        try:
            answer = client.classify(image, **budget)
        except HippoTuneError:
            return None
        return (time.perf_counter() - started) * 1000, answer.budget.keep

    for budget in budgets:
        for image in images[:WARM_UP]:
            client.classify(image, **budget)
    asked = gather(ask, requests * len(budgets), concurrency)
    return [_summary(asked[i :: len(budgets)], concurrency) for i in range(len(budgets))]


def gather(ask: Callable[[int], T], turns: int, concurrency: int) -> list[T]:
    """What `ask` gives for each turn, some of them under way at the same time.

    An error or an interrupt waits only for the calls under way. Every caller fetches its next turn itself: handing out
    a hundred thousand turns would take the main thread seconds, in which an interrupt may hit the pool's own locks and
    leave one locked.
    """
    found: list[T | None] = [None] * turns
    left, interrupted = iter(range(turns)), Event()

    def call() -> None:
        for turn in left:
            if interrupted.is_set():
                return
            found[turn] = ask(turn)

    with ThreadPoolExecutor(concurrency) as pool:
        try:
            for caller in as_completed([pool.submit(call) for _ in range(concurrency)]):
                caller.result()
        finally:
            interrupted.set()
    return cast(list[T], found)


def _summary(asked: Sequence[tuple[float, float] | None], concurrency: int) -> Latency:
    answered = [each for each in asked if each is not None]
    if not answered:
        raise HippoTuneError(f"all of {len(asked)} requests failed")
    good = sorted(ms for ms, _ in answered)
    return Latency(
        p50=statistics.median(good),
        p99=good[min(len(good) - 1, int(0.99 * len(good)))],
        mean=statistics.fmean(good),
        per_second=1000 * concurrency / statistics.fmean(good),
        failed=len(asked) - len(good),
        keep=statistics.fmean(keep for _, keep in answered),
    )


def noise(px: int = 224, seed: int = 0) -> bytes:
    """A JPEG of noise, the same for the same seed: an image when any will do."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (px, px, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()
