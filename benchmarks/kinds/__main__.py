"""How well are images told apart that are no photographs?

`python -m benchmarks.kinds --out benchmarks/results/kinds.json`. Six kinds are drawn here: textures, faults in a
surface, letters, signs, cells, spectrograms. Of each the classes come in tasks, as they would to the service, and new
images are then asked about. Beside HippoTune's answers stand those of its head with the shrinkage that suits
photographs, of its head without slots, and of a linear discriminant solved on all images at once, each class'
covariance shrunk as Ledoit & Wolf (Journal of Multivariate Analysis 2004) would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from benchmarks.kinds.draw import KINDS
from benchmarks.kinds.drawing import Draw
from benchmarks.machine import keep
from benchmarks.newcomers import right
from model.backbone import load_backbone
from model.deliberation import LoopConfig
from model.network import RetrievalViT
from model.preprocess import to_pixels
from model.shrinkage import USUAL_SHARE
from model.spec import BackboneSpec
from trainer.learning.config import LearnerConfig
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task

TASKS = 2
BARE = LearnerConfig(epochs=0)
"""The head alone."""


def drawn(classes: Mapping[str, Draw], images: int, px: int, seed: int) -> Task:
    """So many images of each class."""
    random = np.random.default_rng(seed)
    labels = tuple(label for label in classes for _ in range(images))
    pixels = np.stack([to_pixels(classes[label](random), px) for label in labels])
    return Task(f"drawn {seed}", torch.from_numpy(pixels), labels)


def parted(task: Task) -> list[Task]:
    """As `TASKS` tasks, every second class in each: neighbours are alike."""
    known = list(dict.fromkeys(task.labels))
    parts = (set(known[part::TASKS]) for part in range(TASKS))
    return [task.pick([row for row, label in enumerate(task.labels) if label in part]) for part in parts]


def learned(learner: Learner, tasks: Sequence[Task]) -> LearnerState:
    """What is known after these."""
    state = learner.start()
    for number, task in enumerate(tasks):
        state = learner.consolidate(state, Task(f"t{number}", task.pixels, task.labels))
    return state


def measure(
    network: RetrievalViT, classes: Mapping[str, Draw], images: int, judges: int, seed: int
) -> dict[str, float]:
    """Shares of new images answered rightly, by what answers."""
    px = network.backbone.px
    taught, asked = drawn(classes, images, px, 2 * seed), drawn(classes, judges, px, 2 * seed + 1)
    learner, bare = Learner(network, LearnerConfig(seed=seed)), Learner(network, BARE)
    usual = Learner(network, LearnerConfig(seed=seed, shrinkage=USUAL_SHARE))
    tasks = parted(taught)
    whole, headed = learned(learner, tasks), learned(bare, tasks)
    features, plain = learner.extract(whole.pools, asked.pixels), bare.extract(headed.pools, asked.pixels)
    anew = usual.with_moments(whole, whole.moments)
    shrunk = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    shrunk.fit(learner.extract(whole.pools, taught.pixels), taught.labels)
    return {
        "hippotune": right(whole.head, whole.labels, features, asked.labels),
        "usual shrinkage": right(anew.head, anew.labels, features, asked.labels),
        "without slots": right(headed.head, headed.labels, plain, asked.labels),
        "ledoit-wolf, at once": float(shrunk.score(features, asked.labels)),
    }


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, a row a kind."""
    ways = list(next(iter(figures["kinds"].values()))["right"])
    lines = [f"| kind | classes | {' | '.join(f'{way}, %' for way in ways)} |"]
    lines.append(f"|---|---:|{'---:|' * len(ways)}")
    for kind, found in figures["kinds"].items():
        shares = " | ".join(f"{100 * found['right'][way]:.1f}" for way in ways)
        lines.append(f"| {kind} | {found['classes']} | {shares} |")
    return "\n".join(lines)


def main(
    images: Annotated[int, typer.Option(help="To learn of each class.")] = 25,
    judges: Annotated[int, typer.Option(help="To ask about, of each class.")] = 25,
    seeds: Annotated[int, typer.Option(help="Drawings to take the mean of.")] = 3,
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(KINDS)}.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to keep the figures.")] = None,
) -> None:
    """Measure, print the table, keep the figures."""
    network, kinds = RetrievalViT(load_backbone(BackboneSpec()), LoopConfig()), {}
    for kind, classes in KINDS.items():
        if only in (None, kind):
            found = [measure(network, classes, images, judges, seed) for seed in range(seeds)]
            shares = {way: float(np.mean([one[way] for one in found])) for way in found[0]}
            kinds[kind] = {"classes": len(classes), "right": shares}
    figures = {"images": images, "judges": judges, "seeds": seeds, "kinds": kinds}
    typer.echo(table(figures))
    keep(figures, out)


if __name__ == "__main__":
    typer.run(main)
