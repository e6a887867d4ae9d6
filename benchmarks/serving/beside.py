"""Figures beside other servers: the same images, caller and open loads."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.serving.scene import Scene, ask, child, packed, photographs
from benchmarks.serving.subjects import Effort, Figures, capacity, ours, wait_answering

PEERS = ("litserve", "bentoml", "ray")
OUR_NAME = "hippotune"
LOADS = {"looped": 1.0, "nothing": 4.0, "torch": 0.5}
"""What is served, and what of the bare runtime's images a second its open loads are shares of."""
BUSY = 64
"""Connections at saturation."""


def beside(scene: Scene, model: str, python: Path, effort: Effort) -> Figures:
    """All servers with a model of `Scene.model`; with "torch" ours has the loop in its own default runtime.

    In rounds, each server started, asked and ended before the next is: those at rest would take cores from the one
    asked, and one busy moment of the machine would decide who is slower.
    """
    rounds: dict[str, list[Figures]] = {name: [] for name in (OUR_NAME, *PEERS)}
    failed: dict[str, str] = {}
    able: list[float] = []
    for turn in range(effort.rounds):
        able.append(capacity(scene, effort.seconds))
        for name in [name for name in rounds if name not in failed]:
            try:
                with subject(scene, name, model, python) as told:
                    rounds[name].append(loads(told, LOADS[model] * able[-1], effort, turn))
            except (RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
                failed[name] = str(error)
    found = {name: {"failed": failed[name]} if name in failed else typical(rounds[name]) for name in rounds}
    return {"capacity": median(able), "servers": found, **against(found, effort)}


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


def loads(told: Figures, rate: float, effort: Effort, turn: int) -> dict[str, dict[str, float]]:
    """Saturated, then latency at open loads.  told: port, path, and see `packed`.  turn: seeds their times."""
    photos, kind = packed(photographs(32), told)
    where = (told["port"], photos, [told["path"]], kind)
    # Some servers learn from their first requests how to batch.
    full = ask(*where, connections=BUSY, seconds=effort.seconds, warm_up_s=2 + effort.seconds / 2)
    found = {"saturated": full.summary()}
    for share in effort.shares:
        load = ask(*where, connections=256, rate=share * rate, seed=turn, seconds=effort.seconds)
        found[load_name(share)] = load.summary()
    return found


def typical(rounds: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The median of each figure under each load, but requests added up."""
    return {
        load: {
            name: (sum if name in ("answered", "failed") else median)(one[load][name] for one in rounds)
            for name in rounds[0][load]
        }
        for load in rounds[0]
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
