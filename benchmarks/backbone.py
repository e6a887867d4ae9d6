"""What frozen features are worth: `python -m benchmarks.backbone --out benchmarks/results/backbone.json`.

Compares the bundled backbone with DeiT-Tiny at the same pixel size, with random weights and with the pixels
themselves, by nearest class mean and by a ridge classifier on a random projection, on scikit-learn's digits,
CUB-100, CIFAR-100 and the signs of `benchmarks.kinds`. Its speed: `python -m benchmarks.backbone_speed`.
"""

import io
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from benchmarks.continual.data import load_archive
from benchmarks.fetch import DATA, DEIT, WEIGHTS
from benchmarks.kinds.draw import KINDS
from benchmarks.kinds.drawing import Draw
from benchmarks.machine import keep
from benchmarks.pretrain.graphics import figure, shown
from model.backbone import Backbone, load_backbone
from model.preprocess import to_pixels
from model.spec import BackboneSpec

WIDTH = 2000
"""Columns of the random projection."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Candidates for lambda over the Gram matrix's mean diagonal, chosen on a fifth of the training set."""
PIXELS_PX = 32
"""Side at which photographs are read as plain pixels; digits keep their own 8."""


@dataclass(frozen=True)
class Split:
    """Images and labels to learn from and to be judged on: lists of pictures, int64 [N]."""

    train: list[Image.Image]
    train_labels: Tensor
    test: list[Image.Image]
    test_labels: Tensor
    px: int
    """Side at which these pictures are compared as plain pixels."""


@dataclass(frozen=True)
class Accuracy:
    """Share of test images named rightly, 0..1."""

    nearest_mean: float
    projected_ridge: float


Scores = dict[str, dict[str, dict[str, float]]]
"""Task -> row -> classifier -> accuracy."""
Embedding = Callable[[list[Image.Image], int], Tensor]
"""Pictures and the side of plain pixels -> float features [N, d]."""


def digits(validate: bool) -> Split:
    """scikit-learn's 1,797 digits, 8 x 8, white on black; half of each class to learn, half to judge."""
    data = load_digits()
    grey = (data.images / 16 * 255).astype(np.uint8)
    train, test = train_test_split(np.arange(len(grey)), test_size=0.5, stratify=data.target, random_state=0)
    if validate:
        train, test = train_test_split(train, test_size=0.5, stratify=data.target[train], random_state=0)
    labels = torch.from_numpy(data.target.astype(np.int64))
    pictures = [Image.fromarray(image).convert("RGB") for image in grey]
    return Split([pictures[i] for i in train], labels[train], [pictures[i] for i in test], labels[test], 8)


def archive(folder: Path, name: str, per_class: int, validate: bool) -> Split:
    """`per_class` images of each class of an archive's train part, and its test part.

    With `validate` no test image is read: every fifth of those training images judges instead.
    """
    train, labels = read(folder / f"{name}_train_webp.npz", per_class)
    if not validate:
        return Split(train, labels, *read(folder / f"{name}_test_webp.npz", per_class), PIXELS_PX)
    judge = torch.arange(len(train)) % 5 == 0
    kept, held = (~judge).nonzero().flatten(), judge.nonzero().flatten()
    return Split([train[i] for i in kept], labels[kept], [train[i] for i in held], labels[held], PIXELS_PX)


def signs(per_class: int, validate: bool) -> Split:
    """Drawings of each sign to learn from, and as many to judge; with `validate`, of forty irregular figures."""
    random = np.random.default_rng(0)
    figures: list[Draw] = [partial(shown, figure(random)) for _ in range(40)]
    classes = figures if validate else list(KINDS["signs"].values())
    train, test = ([draw(random) for draw in classes for _ in range(per_class)] for _ in range(2))
    labels = torch.arange(len(classes)).repeat_interleave(per_class)
    return Split(train, labels, test, labels, PIXELS_PX)


def read(path: Path, per_class: int) -> tuple[list[Image.Image], Tensor]:
    """The first `per_class` images of each class of an archive, with labels [N]."""
    source = load_archive(path)
    of_class = [source.of_class(label)[:per_class] for label in range(len(source.classes))]
    rows = np.sort(np.concatenate(of_class))
    pictures = [Image.open(io.BytesIO(source.read(row))).convert("RGB") for row in rows]
    return pictures, torch.from_numpy(source.labels[rows])


def from_pixels(pictures: list[Image.Image], px: int) -> Tensor:
    """The pictures themselves at side `px`, flat: [N, 3 px^2]."""
    return torch.from_numpy(np.stack([to_pixels(picture, px) for picture in pictures])).flatten(1) / 255


def from_backbone(backbone: Backbone) -> Embedding:
    """Frozen features of a backbone with no pools: [N, d]."""

    @torch.inference_mode()
    def embed(pictures: list[Image.Image], _: int) -> Tensor:
        parts = []
        for start in range(0, len(pictures), 64):
            images = np.stack([to_pixels(picture, backbone.px) for picture in pictures[start : start + 64]])
            parts.append(backbone.pool(backbone.vit.blocks(backbone.embed(torch.from_numpy(images)))))
        return torch.cat(parts)

    return embed


def judge(embed: Embedding, split: Split) -> Accuracy:
    """Both classifiers on one set of features."""
    train, test = embed(split.train, split.px), embed(split.test, split.px)
    return Accuracy(
        nearest_mean(train, split.train_labels, test, split.test_labels),
        projected_ridge(train, split.train_labels, test, split.test_labels),
    )


def nearest_mean(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Accuracy of the class whose mean unit feature has the greatest cosine: features [N, d], labels [N]."""
    unit, classes = F.normalize(train, dim=1), torch.tensor(sorted(set(train_labels.tolist())))
    means = torch.stack([unit[train_labels == label].mean(0) for label in classes])  # [C, d]
    guess = (F.normalize(test, dim=1) @ F.normalize(means, dim=1).T).argmax(1)
    return accuracy(classes[guess], test_labels)


def projected_ridge(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Accuracy of ridge regression to one-hot labels from relu(f R), R `WIDTH` wide; lambda by hold-out."""
    mean, std = train.mean(0), train.std(0).mean()
    projection = random_projection(train.shape[1], WIDTH, seed=0)
    train, test = (project((features - mean) / std, projection) for features in (train, test))
    wanted = F.one_hot(train_labels).float()
    judge = torch.arange(len(train)) % 5 == 0
    fits = solutions(train[~judge], wanted[~judge], RIDGES)
    scores = [accuracy((train[judge] @ fit).argmax(1), train_labels[judge]) for fit in fits]
    best = RIDGES[int(np.argmax(scores))]
    return accuracy((test @ solutions(train, wanted, (best,))[0]).argmax(1), test_labels)


def random_projection(dim: int, width: int, seed: int) -> Tensor:
    """R [d, D]: independent normal entries of variance 1/d."""
    return torch.randn(dim, width, generator=torch.Generator().manual_seed(seed)) / dim**0.5


def project(features: Tensor, projection: Tensor) -> Tensor:
    """h = relu(f R) of features scaled to length one: [N, d] @ [d, D] -> [N, D]."""
    return (F.normalize(features, dim=-1) @ projection).relu()


def solutions(features: Tensor, wanted: Tensor, ridges: tuple[float, ...]) -> list[Tensor]:
    """W [D, C] for each ridge, from features [N, D] and one-hot labels [N, C]."""
    gram, right = (features.T @ features).double(), (features.T @ wanted).double()
    scale, eye = gram.diagonal().mean(), torch.eye(len(gram), dtype=torch.float64)
    return [torch.linalg.solve(gram + ridge * scale * eye, right, left=True).float() for ridge in ridges]


def accuracy(guess: Tensor, truth: Tensor) -> float:
    """Share of equal entries."""
    return float((guess == truth).float().mean())


def randomised(backbone: Backbone) -> Backbone:
    """The same architecture with every weight freshly drawn."""
    torch.manual_seed(0)
    vit = deepcopy(backbone.vit)
    for module in vit.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm):
            module.reset_parameters()
    vit.init_weights()
    half = (0.5, 0.5, 0.5)
    return Backbone("random", vit, backbone.px, half, half)


ROWS = ("bundled", "deit_tiny", "random", "pixels")
"""What is compared: at the bundled backbone's pixel size, but for the pixels themselves."""


def contender(row: str, bundled: Backbone, deit_file: Path) -> Embedding:
    """The features of one row of the comparison."""
    if row == "pixels":
        return from_pixels
    if row == "deit_tiny":
        return from_backbone(load_backbone(BackboneSpec(DEIT, deit_file, px=bundled.px)))
    return from_backbone(bundled if row == "bundled" else randomised(bundled))


def compare(rows: list[str], data: Path, per_class: int, validate: bool, bundled: Backbone) -> Scores:
    """Every row on every task."""
    splits = {
        "digits": digits(validate),
        "cub100": archive(data, "cub100", per_class, validate),
        "cifar100": archive(data, "cifar100", per_class, validate),
        "signs": signs(per_class, validate),
    }
    scores: Scores = {}
    for row in rows:
        embed = contender(row, bundled, data / WEIGHTS)
        for task, split in splits.items():
            found = judge(embed, split)
            scores.setdefault(task, {})[row] = asdict(found)
            typer.echo(f"{task:9} {row:10} {found}", err=True)
    return scores


def main(
    data: Annotated[Path, typer.Option(help="Folder with the archives and DeiT-Tiny.")] = DATA,
    out: Annotated[Path | None, typer.Option(help="Where to write the figures.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="What to measure; all where none is named.")] = None,
    per_class: Annotated[int, typer.Option(help="Images of a class to learn from, and to judge on.")] = 50,
    weights: Annotated[Path | None, typer.Option(help="Another file than the packaged weights.")] = None,
    validate: Annotated[bool, typer.Option(help="Judge on held-out training images instead.")] = False,
    quick: Annotated[
        bool, typer.Option(help="Five images of a class: that it runs, not what it is worth.")
    ] = False,
) -> None:
    """Measure what the bundled backbone's features are worth."""
    per_class = 5 if quick else per_class
    bundled = load_backbone(BackboneSpec(weights=weights))
    figures = {
        "backbone": asdict(bundled.identity),
        "judged_on": "held-out training images" if validate else "test images",
        "per_class": per_class,
        "accuracy": compare(row or list(ROWS), data, per_class, validate, bundled),
    }
    keep(figures, out)


if __name__ == "__main__":
    typer.run(main)
