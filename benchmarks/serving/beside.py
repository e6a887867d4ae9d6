"""Figures beside other servers: one after the other, the same images, caller and open loads."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.serving.scene import Scene, ask, child, packed, photographs
from benchmarks.serving.subjects import Effort, Figures, ours, wait_answering

PEERS = ("litserve", "bentoml", "ray")
OUR_NAME = "hippotune"
LOADS = {"looped": 1.0, "nothing": 4.0, "torch": 0.5}
"""What is served, and what of the bare runtime's images a second its open loads are shares of."""
BUSY = 64
"""Connections at saturation."""


def beside(scene: Scene, model: str, python: Path, capacity: float, effort: Effort) -> Figures:
    """All servers with a model of `Scene.model`; with "torch" ours has the loop in its own default runtime."""
    rate, found = LOADS[model] * capacity, Figures()
    for name in (OUR_NAME, *PEERS):
        try:
            with subject(scene, name, model, python) as told:
                found[name] = loads(told, rate, effort)
        except (RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
            found[name] = {"failed": str(error)}
    return {"servers": found, **against(found, effort)}


@contextmanager
def subject(scene: Scene, name: str, model: str, python: Path) -> Iterator[Figures]:
    """One server, answering; yields how it wants to be asked."""
    if name == OUR_NAME:
        with ours(replace(scene, runtime="auto"), "product" if model == "torch" else model) as server:
            yield server.told
        return
    with child(replace(scene, model=model), f"benchmarks.serving.peers.{name}_app", python) as peer:
        wait_answering(peer.told)
        yield peer.told


def loads(told: Figures, rate: float, effort: Effort) -> Figures:
    """Saturated, then latency at open loads, in rounds.  told: port, path, and see `packed`."""
    photos, kind = packed(photographs(32), told)
    where = (told["port"], photos, [told["path"]], kind)
    # Some servers learn from their first requests how to batch.
    full = ask(*where, connections=BUSY, seconds=effort.seconds, warm_up_s=2 + effort.seconds / 2)
    found = {"saturated": full.summary()}
    for share in effort.shares:
        found[load_name(share)] = typical(
            [
                ask(*where, connections=256, rate=share * rate, seed=turn, seconds=effort.seconds).summary()
                for turn in range(effort.rounds)
            ]
        )
    return found


def typical(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure, but requests added up: one busy moment of the machine decides a single p99."""
    return {
        name: (sum if name in ("answered", "failed") else median)(one[name] for one in rounds)
        for name in rounds[0]
    }


def load_name(share: float) -> str:
    return f"load_{share:.0%}"


def against(found: Figures, effort: Effort) -> Figures:
    """Ours over the best of the others that answered: throughput, and the worst of all loads' latencies."""
    ours_, answered = found[OUR_NAME], [found[name] for name in PEERS if "failed" not in found[name]]
    if "failed" in ours_ or not answered:
        return {}
    best = max(one["saturated"]["per_second"] for one in answered)
    figures = {"saturated_over_best": ours_["saturated"]["per_second"] / best}
    for name in ("latency_p50_ms", "latency_p99_ms"):
        figures[f"{name.removesuffix('_ms')}_over_best"] = max(
            ours_[load][name] / min(one[load][name] for one in answered)
            for load in map(load_name, effort.shares)
        )
    return figures
