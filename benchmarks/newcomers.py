"""How many images does a new class need? `python -m benchmarks.newcomers --out benchmarks/results/newcomers.json`.

Learns four fifths of the classes of CIFAR-100 and of CUB-100 in four tasks of many images a class, with DeiT-Tiny and
with the bundled backbone, then the other classes with 1, 2, 3, 5, 10 and 20 images each. Of each it prints how many
test images are answered rightly: of the new classes, of those if only new labels are asked for (`labels=`), and of the
old classes before and after.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from benchmarks.continual.data import Dataset, Subset, choose, load, together
from benchmarks.familiarity import scenes
from benchmarks.fetch import DATA
from benchmarks.machine import keep
from model.backbone import load_backbone
from model.deliberation import LoopConfig
from model.head import Head
from model.network import RetrievalViT
from model.spec import BackboneSpec
from trainer.learning.config import LearnerConfig
from trainer.learning.learner import Learner
from trainer.learning.task import Task

TASKS = 4
IMAGES = (1, 2, 3, 5, 10, 20)
MANY = {"cifar100": 50, "cub100": 20}
"""Images of each old class: as many as there are, in CUB-100."""


def task_of(name: str, subset: Subset, px: int) -> Task:
    """What teaches these images."""
    return Task(name, subset.pixels(px), subset.names)


def right(
    head: Head, known: Sequence[str], features: Tensor, labels: Sequence[str], among: Collection[str] = ()
) -> float:
    """The share of test images, features [n, F], that are answered rightly.

    known: labels of the head's classes.  labels: [n].  among: the labels asked for, all unless named.
    """
    columns = [row for row, label in enumerate(known) if not among or label in among]
    best = head.logits_of_many(features)[:, columns].argmax(dim=1).tolist()
    answers = [known[columns[place]] for place in best]
    return sum(map(str.__eq__, answers, labels)) / len(labels)


def measure(spec: BackboneSpec, dataset: Dataset, seed: int) -> dict[str, Any]:
    """One data set on one backbone: the shares of old and of new classes by images a new class."""
    backbone = load_backbone(spec)
    learner, px = Learner(RetrievalViT(backbone, LoopConfig()), LearnerConfig()), backbone.px
    torch.manual_seed(seed)
    *parts, coming = np.array_split(np.random.default_rng(seed).permutation(len(dataset.classes)), TASKS + 1)
    state = learner.start()
    for number, part in enumerate(parts):
        state = learner.consolidate(
            state, task_of(f"t{number}", together([dataset.train[row] for row in part]), px)
        )
    old, new = (together([dataset.test[row] for row in rows]) for rows in (np.concatenate(parts), coming))
    of_old, of_new = (learner.extract(state.pools, subset.pixels(px)) for subset in (old, new))
    found = {}
    for images in IMAGES:
        few = together([dataset.train[row].pick(range(images)) for row in coming])
        after = learner.consolidate(state, task_of("newcomers", few, px))
        found[str(images)] = {
            "new": right(after.head, after.labels, of_new, new.names),
            "new_among_new": right(after.head, after.labels, of_new, new.names, set(new.names)),
            "old": right(after.head, after.labels, of_old, old.names),
        }
    return {"old_before": right(state.head, state.labels, of_old, old.names), "images": found}


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, a row for each number of images."""
    lines = [
        "| learned | images a new class | new classes right, % | among new labels | old classes right, % | before |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for scene, found in figures["scenes"].items():
        for images, shares in found["images"].items():
            figured = (
                f"{100 * share:.1f}"
                for share in (shares["new"], shares["new_among_new"], shares["old"], found["old_before"])
            )
            lines.append(f"| {scene} | {images} | {' | '.join(figured)} |")
    return "\n".join(lines)


def main(
    data: Annotated[Path, typer.Option(help="Folder of the data sets and of DeiT-Tiny's weights.")] = DATA,
    judges: Annotated[int, typer.Option(help="Test images of each class.")] = 10,
    seed: Annotated[int, typer.Option(help="Of which classes are new.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="The bundled backbone on CIFAR-100 alone.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to keep the figures.")] = None,
) -> None:
    """Measure, print the table, keep the figures."""
    found = {}
    for name, called, spec in scenes(data, quick):
        dataset = choose(*load(name, data), MANY[name], judges, "test")
        found[f"{name}, {called}"] = measure(spec, dataset, seed)
    figures = {"many": MANY, "judges": judges, "seed": seed, "scenes": found}
    typer.echo(table(figures))
    keep(figures, out)


if __name__ == "__main__":
    typer.run(main)
