"""Train the bundled backbone: `python -m benchmarks.pretrain`. Run again to resume."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.fetch import DATA, WEIGHTS
from benchmarks.pretrain.export import averaged, draw_curve, export
from benchmarks.pretrain.student import Distillation
from benchmarks.pretrain.teacher import cached_views, load_teacher
from benchmarks.pretrain.train import Recipe, Trainer
from benchmarks.pretrain.whiten import mild_crops, unwhitened, whiten
from model.bundled import BUNDLED

CACHE = Path(".cache/pretrain")
"""Where a run keeps what it needs to go on; ignored by git."""
RESULTS = Path("benchmarks/results/pretrain.json")
"""Where the loss curve goes."""


def main(
    data: Annotated[Path, typer.Option(help="Folder with the archives and the teacher.")] = DATA,
    cache: Annotated[Path, typer.Option(help="Teacher's answers and checkpoints.")] = CACHE,
    minutes: Annotated[float, typer.Option(help="Training time over all resumed runs.")] = Recipe.minutes,
    start_from: Annotated[Path | None, typer.Option(help="Trained backbone to begin with.")] = None,
    weights: Annotated[Path, typer.Option(help="Where to write the trained backbone.")] = BUNDLED,
    train: Annotated[bool, typer.Option(help="Or only write what the last checkpoint holds.")] = True,
) -> None:
    """Distil DeiT-Tiny into the bundled backbone on CIFAR-100 and CUB training images."""
    torch.set_num_threads(1)
    recipe = Recipe(minutes=minutes)
    torch.manual_seed(recipe.seed)
    sources = cached_views(data, cache)
    teacher = load_teacher(data / WEIGHTS)
    student = Distillation(sources, teacher.get_classifier())
    if start_from is not None:
        student.vit.load_state_dict(unwhitened(start_from).state_dict())
    trainer = Trainer(student, sources, recipe, cache)
    if train:
        trainer.run()
    vit = averaged(trainer.checkpoint)
    whiten(vit, mild_crops(data))
    sha256 = export(vit, weights)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"steps": trainer.clock.step, "history": trainer.history}) + "\n")
    draw_curve(trainer.history, weights.with_name("training.png"))
    typer.echo(
        f"{weights}: sha256 {sha256}, {trainer.clock.step} steps in {trainer.clock.seconds / 60:.0f} min"
    )


if __name__ == "__main__":
    typer.run(main)
