"""Figures beside other servers: in turns, the same images, caller and open loads."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
    """All servers with a model of `Scene.model`; with "torch" ours has the loop in its own default runtime.

    All of them run all the time and are asked in turns, so that a busy moment of the machine hits all alike.
    """
    rate, failed, measured = LOADS[model] * capacity, dict[str, str](), dict[str, list[Figures]]()
    with ExitStack() as stack:
        servers: dict[str, Figures] = {}
        for name in (OUR_NAME, *PEERS):
            with noting(name, failed):
                servers[name] = stack.enter_context(subject(scene, name, model, python))
        for turn in range(effort.rounds):
            for name in [name for name in servers if name not in failed]:
                with noting(name, failed):
                    measured.setdefault(name, []).append(loads(servers[name], rate, effort, turn))
    found = {
        name: {"failed": failed[name]} if name in failed else typical(measured[name])
        for name in (OUR_NAME, *PEERS)
    }
    return {"servers": found, **against(found, effort)}


@contextmanager
def noting(name: str, failed: dict[str, str]) -> Iterator[None]:
    """A server that does not start or answer is told of, and left out."""
    try:
        yield
    except (RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
        failed[name] = str(error)


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


def loads(told: Figures, rate: float, effort: Effort, turn: int) -> Figures:
    """One round: saturated, then latency at open loads.  told: port, path, and see `packed`."""
    photos, kind = packed(photographs(32), told)
    where = (told["port"], photos, [told["path"]], kind)
    # Some servers learn from their first requests how to batch.
    warm_up_s = 1.0 if turn else 2 + effort.seconds / 2
    full = ask(*where, connections=BUSY, seconds=effort.seconds, warm_up_s=warm_up_s)
    found = {"saturated": full.summary()}
    for share in effort.shares:
        one = ask(*where, connections=256, rate=share * rate, seed=turn, seconds=effort.seconds)
        found[load_name(share)] = one.summary()
    return found


def typical(rounds: Sequence[Figures]) -> Figures:
    """Of each load the median of each figure, but requests added up."""
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
