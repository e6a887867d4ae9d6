"""Latency of a server as its callers see it."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hippotune.client import Client
from hippotune.errors import HippoTuneError

WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from sending a request to having its answer; failed requests are counted, not timed.

    per_second: answers a second of this measurement, all its callers together.
    """

    p50: float
    p99: float
    mean: float
    per_second: float
    failed: int


def latency(
    client: Client, images: Sequence[bytes], budgets: Sequence[int], requests: int, concurrency: int = 1
) -> Mapping[int, Latency]:
    """Latency at each `tmax` of `budgets`, the budgets taking turns request by request.

    The first few requests of each budget warm caches and are left out. Raises HippoTuneError if all fail.
    """

    def ask(turn: int) -> float | None:
        image, tmax = images[turn // len(budgets) % len(images)], budgets[turn % len(budgets)]
        started = time.perf_counter()
        try:
            client.classify(image, tmax=tmax)
        except HippoTuneError:
            return None
        return (time.perf_counter() - started) * 1000

    for tmax in budgets:
        for image in images[:WARM_UP]:
            client.classify(image, tmax=tmax)
    with ThreadPoolExecutor(concurrency) as callers:
        times = list(callers.map(ask, range(requests * len(budgets))))
    return {tmax: _summary(times[i :: len(budgets)], concurrency) for i, tmax in enumerate(budgets)}


def _summary(times: Sequence[float | None], concurrency: int) -> Latency:
    good = sorted(t for t in times if t is not None)
    if not good:
        raise HippoTuneError(f"all of {len(times)} requests failed")
    return Latency(
        p50=statistics.median(good),
        p99=good[min(len(good) - 1, int(0.99 * len(good)))],
        mean=statistics.fmean(good),
        per_second=1000 * concurrency / statistics.fmean(good),
        failed=len(times) - len(good),
    )


def noise(px: int = 224, seed: int = 0) -> bytes:
    """A JPEG of noise, the same for the same seed: an image when any will do."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (px, px, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()
