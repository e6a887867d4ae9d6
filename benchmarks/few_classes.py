"""How familiar are images of the classes known, where those are few? `python -m benchmarks.few_classes`.

Teaches the head alone a few classes of CIFAR-100 and of CUB-100 on the bundled backbone, drawn anew each time, and
prints the share of their own test images that `familiarity` puts below 0.01 and below 0.05: as large as these levels
if all is well. Beside it the share of images of forty other classes. `benchmarks.familiarity` does the same of fifty
classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.continual.data import Dataset, choose, load, together
from benchmarks.fetch import DATA
from benchmarks.kinds.__main__ import BARE
from benchmarks.machine import keep
from benchmarks.newcomers import task_of
from model.backbone import load_backbone
from model.deliberation import LoopConfig
from model.network import RetrievalViT
from model.spec import BackboneSpec
from trainer.learning.learner import Learner

SETS = ("cifar100", "cub100")
CLASSES = (2, 3, 5, 10)
IMAGES = (5, 10, 20)
LEVELS = (0.01, 0.05)
STRANGERS = 40
"""Other classes that are asked about, of one test image each."""


def measure(learner: Learner, dataset: Dataset, classes: int, images: int, seed: int) -> list[list[float]]:
    """Shares below each of `LEVELS`: of images of the classes taught, then of others."""
    px = learner.network.backbone.px
    drawn = np.random.default_rng(seed).permutation(len(dataset.classes))
    known, others = drawn[:classes], drawn[classes : classes + STRANGERS]
    taught = together([dataset.train[row].pick(range(images)) for row in known])
    state = learner.consolidate(learner.start(), task_of("few", taught, px))
    asked = (
        together([dataset.test[row] for row in known]),
        together([dataset.test[row].pick(range(1)) for row in others]),
    )
    if state.head.familiarity is None:
        raise ValueError(f"{classes} classes of {images} images: nothing is told of familiarity")
    told = [state.head.familiarity.of(learner.extract(state.pools, one.pixels(px))) for one in asked]
    return [[float((one < level).double().mean()) for level in LEVELS] for one in told]


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, a row for each number of classes and of images."""
    lines = [
        "| learned | classes | images of each | of known ones, % at 0.01 / 0.05 | of others |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in figures["rows"]:
        known, others = (
            " / ".join(f"{100 * share:.1f}" for share in row[kind]) for kind in ("known", "others")
        )
        lines.append(f"| {row['set']} | {row['classes']} | {row['images']} | {known} | {others} |")
    return "\n".join(lines)


def main(
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")] = DATA,
    draws: Annotated[int, typer.Option(help="Of classes, to take the mean of.")] = 10,
    quick: Annotated[bool, typer.Option("--quick", help="Two draws of two classes: that it runs.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to keep the figures.")] = None,
) -> None:
    """Measure, print the table, keep the figures."""
    learner, rows = Learner(RetrievalViT(load_backbone(BackboneSpec()), LoopConfig()), BARE), []
    for name in SETS[:1] if quick else SETS:
        dataset = choose(*load(name, data), max(IMAGES), 15, "test")
        for classes in CLASSES[:1] if quick else CLASSES:
            for images in IMAGES:
                found = [
                    measure(learner, dataset, classes, images, seed) for seed in range(2 if quick else draws)
                ]
                known, others = torch.tensor(found).mean(dim=0).tolist()
                rows.append(
                    {"set": name, "classes": classes, "images": images, "known": known, "others": others}
                )
    figures = {"draws": draws, "levels": LEVELS, "rows": rows}
    typer.echo(table(figures))
    keep(figures, out)


if __name__ == "__main__":
    typer.run(main)
