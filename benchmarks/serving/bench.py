"""Figures of one version that stays: throughput, concurrency, one caller, mixed budgets.

Ratios compare what was measured in turns within one run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.serving.client import percentile
from benchmarks.serving.scene import Scene, ask, child, multipart, photographs, tensors
from benchmarks.serving.subjects import BARE, Effort, Figures, bare, ours

BUDGETS = ("", "?tmax=1", "?tmax=2&topk=3", "?tmax=3&epsilon=2", "?epsilon=5", "?tmax=4&topk=20")
CONNECTIONS = (1, 4, 16, 64)
SIDES = (256, 1024)
"""Of the photographs."""


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


@dataclass(frozen=True)
class Sent:
    """What a saturated server is asked, over and over."""

    bodies: Sequence[bytes]
    media_type: str
    path: str = "/classify"
    headers: Sequence[tuple[str, str]] = ()

    def per_second(self, port: int, connections: int, seconds: float) -> float:
        """Answers."""
        return ask(
            port,
            self.bodies,
            [self.path],
            self.media_type,
            headers=self.headers,
            connections=connections,
            seconds=seconds,
        ).per_second


def throughput(scene: Scene, px: int, effort: Effort) -> Figures:
    """At saturation, against the bare runtime, the plain transformer, and nothing at all."""
    batch, busy = scene.max_batch, 2 * scene.max_batch
    jpegs = Sent(photographs(32), "image/jpeg")
    parts = [multipart(photo, "file") for photo in jpegs.bodies]
    forms = Sent([body for body, _ in parts], parts[0][1])
    bodies, json_bytes = tensors(px, 8)
    header = ("Inference-Header-Content-Length", str(json_bytes))
    pixels = Sent(bodies, "application/octet-stream", "/v2/models/hippotune/infer", [header])

    with ExitStack() as stack:
        looped = stack.enter_context(child(replace(scene, model="looped"), BARE))
        models = ("looped", "plain", "nothing")
        ports = {model: stack.enter_context(ours(scene, model)).port for model in models}

        def saturated(model: str, sent: Sent) -> Callable[[], float]:
            return lambda: sent.per_second(ports[model], busy, effort.seconds)

        measure = {
            "bare": lambda: bare(looped, batch, effort.seconds),
            "preprocessed": saturated("looped", pixels),
            "jpeg": saturated("looped", jpegs),
            "multipart": saturated("looped", forms),
            "plain_vit": saturated("plain", jpegs),
            "nothing": saturated("nothing", jpegs),
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


def concurrency(port: int, effort: Effort) -> Figures:
    """Images a second and latency by connections and size of the photographs."""
    return {
        f"{side}_px": {
            f"{connections}_connections": ask(
                port, photographs(8, side), connections=connections, seconds=effort.seconds / 2
            ).summary()
            for connections in CONNECTIONS
        }
        for side in SIDES
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


def mixed_budgets(port: int, scene: Scene, effort: Effort) -> Figures:
    """The same server asked with one budget, its default or another, and with six at once."""
    photos, busy = photographs(32), 2 * scene.max_batch

    def asked(paths: Sequence[str]) -> Callable[[], float]:
        return lambda: ask(port, photos, paths, connections=busy, seconds=effort.seconds).per_second

    measure = {
        "default": asked(["/classify"]),
        "tmax_3": asked(["/classify?tmax=3"]),
        "mixed": asked([f"/classify{budget}" for budget in BUDGETS]),
    }
    found = in_turns(effort.rounds, measure)
    return {
        "images_per_second": {name: median(values) for name, values in found.items()},
        "mixed_over_default": ratio(found["mixed"], found["default"]),
        "mixed_over_tmax_3": ratio(found["mixed"], found["tmax_3"]),
    }
