"""Everything is killed while it is used: `python -m benchmarks.chaos --out FILE.json`; `--quick` takes minutes.

Two servers, two trainers and a Redis run on one store. Callers classify without pause, hand in tasks and have some
forgotten. Trainers are killed (SIGKILL) at random moments, most of them in the midst of work, now and then Redis, and
the servers are killed or stopped in turns. Printed is what came of it: every accepted task must be consolidated exactly
once - each class counts exactly the images it was taught - or forgotten where that was asked, no request may be lost,
and no version may ever be seen half written.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.chaos.fleet import LEASE_S, Fleet
from benchmarks.chaos.load import IMAGES, Callers
from benchmarks.machine import keep
from exchange.manifests import LEARNER
from exchange.records import TaskState
from exchange.registry import Registry
from hippotune.demo.data import Limits, digits
from trainer.learning.state import LearnerState

LONGEST_LIFE_S = 12.0
REDIS_EACH, SERVER_EACH = 10, 4
"""Kills of a trainer to one of Redis, and to one restart of a server."""


def main(
    kills: Annotated[int, typer.Option(help="Kills of a trainer.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the random choices.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few kills: minutes instead of an hour.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
) -> None:
    """Kill, count, print, keep."""
    kills = min(kills, 10) if quick else kills
    images = [example for task in digits(Limits(tasks=5, train=60, test=1)) for example in task.train]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Fleet(Path(folder), random.Random(seed)) as fleet:
        callers = Callers(fleet, images)
        callers.start()
        try:
            phases, others = havoc(fleet, kills)
            states = callers.wait_for_all()
        finally:
            callers.no_more_tasks.set()
            callers.stop()
        figures = {
            "command": "python -m benchmarks.chaos" + (" --quick" if quick else ""),
            "seconds": time.monotonic() - began,
            "lease_s": LEASE_S,
            "trainer_kills_survived": sum(phases.values()),
            "trainer_kills_by_phase": phases,
            **others,
            **outcome(fleet, callers, states),
        }
    keep(figures, out)
    if figures["tasks_wrong"] or figures["requests_lost"] or figures["half_versions_seen"]:
        raise typer.Exit(1)


def havoc(fleet: Fleet, kills: int) -> tuple[dict[str, int], dict[str, int]]:
    """Kill a trainer so often, and the others now and then; how often what."""
    phases: Counter[str] = Counter()
    others: Counter[str] = Counter(redis_kills=0, server_kills=0, server_stops=0)
    for kill in range(1, kills + 1):
        time.sleep(fleet.dice.uniform(0, LONGEST_LIFE_S))
        if (phase := fleet.kill_trainer()) is not None:
            phases[phase] += 1
        if kill % REDIS_EACH == 0:
            fleet.kill_redis(away_s=fleet.dice.uniform(0, 5))
            others["redis_kills"] += 1
        if kill % SERVER_EACH == 0:
            ask = fleet.dice.random() < 0.5
            fleet.restart_server(ask)
            others["server_stops" if ask else "server_kills"] += 1
    return dict(phases), dict(others)


def outcome(fleet: Fleet, callers: Callers, states: dict[str, TaskState]) -> dict[str, Any]:
    """What the callers saw, and what the newest learner state holds."""
    seen = callers.seen
    registry = Registry(fleet.queue.redis, fleet.root / "versions")
    newest = next(manifest for manifest in registry.manifests() if manifest.kind == "consolidated")
    state = LearnerState.load(registry.shelf.path(newest.version, LEARNER))
    counts = dict(zip(state.moments.labels, state.moments.counts.tolist(), strict=True))
    wrong = [
        task
        for number, task in enumerate(seen.tasks)
        if not as_promised(
            task, states[task], state, [counts.get(f"{number}{kind}") for kind in "ab"], seen.forgotten
        )
    ]
    return {
        "tasks_accepted": len(seen.tasks),
        "tasks_consolidated_exactly_once": sum(
            state is TaskState.CONSOLIDATED and task not in wrong for task, state in states.items()
        ),
        "tasks_forgotten": sum(s is TaskState.FORGOTTEN for s in states.values()),
        "tasks_cancelled_before_a_trainer_took_them": sum(s is TaskState.CANCELLED for s in states.values()),
        "tasks_wrong": wrong,
        "requests_answered": len(seen.answered),
        "requests_lost": seen.lost,
        "worst_p99_s_of_any_ten_seconds": seen.worst_p99_s(),
        "versions_checked": len(seen.checked),
        "half_versions_seen": len(seen.torn),
        "epochs_resumed": fleet.said("resuming a task"),
    }


def as_promised(
    task: str, state: TaskState, learned: LearnerState, counts: list[float | None], forgotten: set[str]
) -> bool:
    """Whether a task ended as it should and its two classes count exactly the images it taught."""
    if task in forgotten:
        return state in (TaskState.FORGOTTEN, TaskState.CANCELLED) and counts == [None, None]
    return state is TaskState.CONSOLIDATED and task in learned.tasks and counts == [IMAGES, IMAGES]


if __name__ == "__main__":
    typer.run(main)
