"""How fast methods learn, in turns in one run: `python -m benchmarks.continual.speed --out FILE.json`.

Each method learns the same few tasks with as many passes over them; rounds follow one another, so that a busy moment
hits all alike, and ratios are of medians. Prompt methods ask the frozen transformer first and so pass every image
through it twice; the loop asks inside the one pass.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.continual.methods import RECIPES
from benchmarks.continual.methods.base import Setting
from benchmarks.continual.protocols import QUICK, Protocol
from benchmarks.continual.runner import configure, stream
from benchmarks.machine import keep
from model.backbone import load_backbone
from model.spec import BackboneSpec
from trainer.learning.task import Task

TASKS = 5
PLAIN = ("learner.least_steps=0", "learner.enough=2.0")
"""As many passes as all others make: none more for a small task, none less once every image is answered rightly."""
EVERY_TASK = "hippotune, slots for every task"
CONTENDERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "hippotune": ("hippotune", PLAIN),
    EVERY_TASK: ("hippotune", (*PLAIN, "learner.settled=1000")),
    "l2p": ("l2p", ()),
    "dualprompt": ("dualprompt", ()),
    "coda": ("coda", ()),
    "ranpac": ("ranpac", ()),
}
"""Row -> method and settings."""
TWO_PASSES = ("l2p", "dualprompt", "coda")


class Silent:
    """A `Watch` that measures nothing on the way."""

    def trained(self, images: float) -> None:
        """Nothing to do."""

    def served(self) -> None:
        """Nothing to do."""


def images_per_second(row: str, protocol: Protocol, also: Sequence[str] = ()) -> float:
    """Images of the first tasks of a stream by the seconds that learning them takes. also: settings on top."""
    method, settings = CONTENDERS[row]
    recipe = RECIPES[method]
    backbone = load_backbone(BackboneSpec(protocol.backbone, protocol.weights, protocol.px)).to(
        protocol.device
    )
    tasks = [
        Task(one.id, one.train.pixels(protocol.px), one.train.names)
        for one in stream(protocol, 0, recipe.joint, TASKS)
    ]
    learner = recipe.build(configure(recipe, protocol, 0, (*settings, *also)), Setting(backbone, 0, TASKS))
    began = perf_counter()
    for task in tasks:
        learner.learn(task, Silent())
    return sum(len(task.labels) for task in tasks) / (perf_counter() - began)


def ratios(speed: dict[str, float], ours: str, others: Sequence[str]) -> dict[str, float]:
    """How many times as fast one row is as each of the others."""
    return {other: speed[ours] / speed[other] for other in others}


def main() -> None:
    """Measure in rounds, print, keep."""
    parse = argparse.ArgumentParser("python -m benchmarks.continual.speed", description=__doc__)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--train-per-class", type=int, default=10)
    parse.add_argument("--folder", type=Path, default=QUICK.folder)
    parse.add_argument("--weights", type=Path, default=QUICK.weights)
    parse.add_argument("--device", default=QUICK.device)
    parse.add_argument("--out", type=Path)
    options = parse.parse_args()
    protocol = replace(
        QUICK, folder=options.folder, weights=options.weights, device=options.device,
        train_per_class=options.train_per_class, test_per_class=1,
    )  # fmt: skip
    rounds = [{row: images_per_second(row, protocol) for row in CONTENDERS} for _ in range(options.rounds)]
    speed = {row: median(one[row] for one in rounds) for row in CONTENDERS}
    figures = {
        "command": f"python -m benchmarks.continual.speed --rounds {options.rounds}",
        "tasks": TASKS,
        "images_a_class": options.train_per_class,
        "images_per_second": speed,
        "over_two_passes": {ours: ratios(speed, ours, TWO_PASSES) for ours in ("hippotune", EVERY_TASK)},
        "rounds": rounds,
    }
    keep(figures, options.out)


if __name__ == "__main__":
    main()
