"""Learning rates of the peers, on validation images: `python -m benchmarks.continual.tune --method coda`.

A small grid for each method around what its paper states, judged on images cut from training data after the first
tasks of a stream. Winners of the grids kept in benchmarks/results/continual/ are the defaults in `methods`; nothing
here ever sees a test image.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.continual.methods import RECIPES
from benchmarks.continual.protocols import PROTOCOLS
from benchmarks.continual.runner import Run, configure, run
from benchmarks.machine import keep

PROMPTS = tuple((f"lr={lr}", "head_lr=0.01") for lr in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1))
"""Prompts start as numbers up to one: a rate that suits a head moves them little in so few updates."""
SHARED = tuple((f"lr={lr}", f"head_lr={lr}") for lr in (1e-3, 3e-3, 1e-2, 3e-2))
"""One rate for prompts and head, as CODA-Prompt is trained."""
ADAPTER = tuple((f"lr={lr}", f"head_lr={head}") for lr, head in ((1e-3, 1e-2), (3e-3, 1e-2), (1e-2, 1e-2)))
SLOW = tuple((f"lr={lr}", "head_lr=0.01") for lr in (5e-6, 1e-5, 2e-5, 5e-5, 1e-4))
PLAIN = tuple((f"lr={lr}", f"head_lr={head}") for lr, head in ((1e-5, 1e-3), (1e-4, 1e-3)))

GRIDS = {
    "l2p": PROMPTS[:4],
    "dualprompt": PROMPTS[1:],
    "coda": SHARED,
    "lora": ADAPTER,
    "der": ADAPTER,
    "ranpac": ADAPTER,
    "slca": SLOW,
    "finetune": PLAIN,
}
TASKS, TEST_PER_CLASS = 2, 20
"""How much of a stream is enough to tell rates apart; `--tasks` more where they show in what is forgotten."""


def main() -> None:
    """Run a method's grid and keep every point of it."""
    parse = argparse.ArgumentParser("python -m benchmarks.continual.tune", description=__doc__)
    parse.add_argument("--method", choices=sorted(GRIDS), required=True)
    parse.add_argument("--protocol", choices=sorted(PROTOCOLS), default="quick")
    parse.add_argument("--folder", type=Path, default=PROTOCOLS["quick"].folder)
    parse.add_argument("--weights", type=Path, default=PROTOCOLS["quick"].weights)
    parse.add_argument("--tasks", type=int, default=TASKS, help="of the stream, after which rates are judged")
    parse.add_argument("--seed", type=int, default=0, help="as in benchmarks.continual")
    parse.add_argument(
        "--also", action="append", default=[], metavar="FIELD=VALUE", help="set at every point"
    )
    parse.add_argument("--out", type=Path)
    options = parse.parse_args()
    recipe = RECIPES[options.method]
    protocol = replace(
        PROTOCOLS[options.protocol], folder=options.folder, weights=options.weights, split="validation",
        test_per_class=TEST_PER_CLASS, probe_per_class=0,
    )  # fmt: skip
    points = []
    for settings in GRIDS[options.method]:
        chosen = [*(f"{recipe.schedule}{setting}" for setting in settings), *options.also]
        what = Run(
            options.method, protocol, configure(recipe, protocol, options.seed, chosen),
            options.seed, options.tasks,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            figures = run(what, recipe, Path(folder) / "run", lambda *_: None)
        points.append({"settings": chosen, "last": figures["last"], "aaa": figures["aaa"]})
        print(points[-1], flush=True)
    best = max(points, key=lambda point: (point["last"], point["aaa"]))
    command = (
        f"python -m benchmarks.continual.tune --method {options.method} --protocol {options.protocol} "
        f"--tasks {options.tasks} --seed {options.seed}"
    )
    keep({"command": command, "tasks": options.tasks, "points": points, "best": best}, options.out)


if __name__ == "__main__":
    main()
