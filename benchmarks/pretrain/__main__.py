"""Train the bundled backbone: `python -m benchmarks.pretrain`. Run again to resume."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.pretrain.student import Distillation
from benchmarks.pretrain.teacher import cached_views, load_teacher
from benchmarks.pretrain.train import Recipe, Trainer

DATA = Path("../shared/data")
"""Where the training images and the teacher lie."""
CACHE = Path(".cache/pretrain")
"""Where a run keeps what it needs to go on; ignored by git."""


def main(
    data: Annotated[Path, typer.Option(help="Folder with the archives and the teacher.")] = DATA,
    cache: Annotated[Path, typer.Option(help="Teacher's answers and checkpoints.")] = CACHE,
    minutes: Annotated[float, typer.Option(help="Training time over all resumed runs.")] = Recipe.minutes,
) -> None:
    """Distil DeiT-Tiny into the bundled backbone on CIFAR-100 and CUB training images."""
    torch.set_num_threads(1)
    recipe = Recipe(minutes=minutes)
    torch.manual_seed(recipe.seed)
    sources = cached_views(data, cache)
    teacher = load_teacher(data / "deit_tiny_patch16_224_timm.safetensors")
    student = Distillation(sources, teacher.get_classifier())
    Trainer(student, sources, recipe, cache).run()


if __name__ == "__main__":
    typer.run(main)
