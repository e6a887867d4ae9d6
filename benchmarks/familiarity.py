"""Can it tell what it does not know? `python -m benchmarks.familiarity --out benchmarks/results/familiarity.json`.

Learns half of the classes of CIFAR-100 and of CUB-100 in five tasks, with DeiT-Tiny and with the bundled backbone, and
asks about test images of those classes and of five kinds of strangers: the classes of the other half, photographs of
the other data set, scanned digits, noise, and plain colours. Of each it prints

* how many are taken for unknown where the familiarity below which an image counts as unknown is 0.01 and 0.05: of
  known classes that many in a hundred should be;
* the area under the ROC curve, known against strangers, by familiarity and by the best score, the usual yardstick
  (Hendrycks & Gimpel, ICLR 2017): 0.5 is guessing.

Then the share of known images that fall below under other budgets and runtimes: what is usual was measured at the
loop's own budget in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from benchmarks.continual.data import Dataset, choose, load, together
from benchmarks.fetch import DATA, DEIT, WEIGHTS
from benchmarks.machine import keep
from benchmarks.rounding import runtimes
from model.backbone import load_backbone
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.network import RetrievalViT
from model.preprocess import to_pixels
from model.spec import BackboneSpec
from service.cpus import available_cpus
from service.runtimes.base import Classifier
from service.runtimes.torch import TorchRuntime
from trainer.learning.config import LearnerConfig
from trainer.learning.learner import Learner
from trainer.learning.task import Task

LEVELS = (0.01, 0.05)
TASKS = 5
STRANGERS = 200
BATCH = 16
PX = {"cifar100": 128, "cub100": 224}
OTHER = {"cifar100": "cub100", "cub100": "cifar100"}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Asked:
    """familiarity, best: [n], of each image, its familiarity and its best score.  right: share answered rightly."""

    familiarity: NDArray[np.float32]
    best: NDArray[np.float32]
    right: float


def scenes(data: Path, quick: bool) -> Iterator[tuple[str, str, BackboneSpec]]:
    """Data sets, and what each backbone is called and is. quick: the bundled one on CIFAR-100 alone."""
    yield "cifar100", "bundled", BackboneSpec("bundled")
    if not quick:
        yield "cifar100", "DeiT-Tiny", BackboneSpec(DEIT, weights=data / WEIGHTS, px=PX["cifar100"])
        yield "cub100", "bundled", BackboneSpec("bundled")
        yield "cub100", "DeiT-Tiny", BackboneSpec(DEIT, weights=data / WEIGHTS, px=PX["cub100"])


def learn(learner: Learner, known: Sequence[int], dataset: Dataset, px: int) -> Checkpoint:
    """A version that learned these classes in `TASKS` tasks."""
    state = learner.start()
    for number, part in enumerate(np.array_split(known, TASKS)):
        subset = together([dataset.train[row] for row in part])
        state = learner.consolidate(state, Task(f"t{number}", subset.pixels(px), subset.names))
    return learner.checkpoint(state)


def pixels_of(dataset: Dataset, classes: Sequence[int], px: int) -> tuple[Pixels, tuple[str, ...]]:
    """Test images of some classes, and their labels."""
    subset = together([dataset.test[row] for row in classes])
    return subset.pixels(px).numpy(), subset.names


def drawn(px: int, seed: int) -> dict[str, Pixels]:
    """Digits, noise of several grains, plain colours: what no data set of photographs holds."""
    random = np.random.default_rng(seed)
    digits = random.permutation(load_digits().images)[:STRANGERS]
    grains = [8, 16, 32, 64, 128] * (STRANGERS // 5)
    pictures = {
        "digits": [Image.fromarray((digit * 15.9).astype(np.uint8)) for digit in digits],
        "noise": [
            Image.fromarray(random.integers(0, 255, (grain, grain, 3), dtype=np.uint8)) for grain in grains
        ],
        "plain colours": [
            Image.new("RGB", (px, px), tuple(random.integers(0, 255, 3).tolist())) for _ in grains
        ],
    }
    return {name: np.stack([to_pixels(one, px) for one in several]) for name, several in pictures.items()}


def ask(
    classifier: Classifier, version: Checkpoint, pixels: Pixels, budget: Budget, labels: Sequence[str] = ()
) -> Asked:
    """What is told of images [n, 3, px, px]. labels: theirs, where they are known."""
    chunks = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    outputs = [classifier.classify(chunk, [budget] * len(chunk), explain=False) for chunk in chunks]
    scores = np.concatenate([output.scores for output in outputs])
    named = [version.labels[column] for column in scores.argmax(axis=1)]
    right = sum(map(str.__eq__, named, labels)) / len(labels) if labels else 0.0
    return Asked(np.concatenate([output.familiarity for output in outputs]), scores.max(axis=1), right)


def below(asked: Asked) -> dict[str, float]:
    """The share of images less familiar than each level."""
    return {str(level): float((asked.familiarity < level).mean()) for level in LEVELS}


def told_apart(known: Asked, strangers: Asked) -> dict[str, Any]:
    """How many strangers are taken for unknown, and how well both measures tell them apart."""
    truth = [1] * len(known.best) + [0] * len(strangers.best)

    def area(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
        return float(roc_auc_score(truth, np.concatenate([ours, theirs])))

    return {
        "below": below(strangers),
        "auc": area(known.familiarity, strangers.familiarity),
        "auc_best_score": area(known.best, strangers.best),
    }


def measure(
    spec: BackboneSpec, name: str, data: Path, images: int, judges: int, seed: int, *, rounded: bool
) -> dict[str, Any]:
    """One data set on one backbone. rounded: whether to try runtimes of fewer bits too."""
    backbone = load_backbone(spec)
    dataset, other = (choose(*load(one, data), images, judges, "test") for one in (name, OTHER[name]))
    order = np.random.default_rng(seed).permutation(len(dataset.classes)).tolist()
    known, unknown, px = order[: len(order) // 2], order[len(order) // 2 :], backbone.px
    torch.manual_seed(seed)
    version = learn(Learner(RetrievalViT(backbone, LoopConfig()), LearnerConfig()), known, dataset, px)
    on_torch = TorchRuntime(backbone, torch.device("cpu"), available_cpus())
    classifier, full = on_torch.prepare(version), version.loop.budget
    pixels, labels = pixels_of(dataset, known, px)
    usual = ask(classifier, version, pixels, full, labels)
    strangers = {
        "other classes": pixels_of(dataset, unknown, px)[0],
        "other photographs": pixels_of(other, range(len(other.classes)), px)[0][:: judges // 2],
        **drawn(px, seed),
    }
    told = {kind: ask(classifier, version, theirs, full) for kind, theirs in strangers.items()}
    found = {
        "right": usual.right,
        "known": below(usual),
        "strangers": {kind: told_apart(usual, asked) for kind, asked in told.items()},
        "budgets": {
            knob: below(ask(classifier, version, pixels, budget)) for knob, budget in budgets(full).items()
        },
    }
    return found | ({"runtimes": by_runtime(on_torch, spec, version, pixels)} if rounded else {})


def budgets(full: Budget) -> dict[str, Budget]:
    """Others than the loop's own."""
    fewer = {f"tmax {tmax}": replace(full, tmax=tmax) for tmax in (2, 1)}
    return fewer | {f"keep {share}": replace(full, keep=share) for share in (0.8, 0.5)}


def by_runtime(
    on_torch: TorchRuntime, spec: BackboneSpec, version: Checkpoint, pixels: Pixels
) -> dict[str, dict[str, float]]:
    """Of each runtime, the share of images less familiar than each level."""
    with TemporaryDirectory() as graphs:
        several = runtimes(on_torch, spec, Path(graphs), available_cpus())
        full = version.loop.budget
        found = {
            kind: below(ask(one.prepare(version), version, pixels, full)) for kind, one in several.items()
        }
        for one in several.values():
            one.close()
    return found


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, a row a kind of image."""
    lines = [
        "| learned | images | unknown at 0.01, % | at 0.05, % | AUC, familiarity | AUC, best score |",
        "|---|---|---|---|---|---|",
    ]
    for scene, found in figures["scenes"].items():
        first, second = (100 * share for share in found["known"].values())
        lines.append(f"| {scene} | of known classes | {first:.1f} | {second:.1f} | | |")
        for kind, told in found["strangers"].items():
            first, second = (100 * share for share in told["below"].values())
            areas = f"{told['auc']:.3f} | {told['auc_best_score']:.3f}"
            lines.append(f"| | {kind} | {first:.1f} | {second:.1f} | {areas} |")
        for way, shares in (found["budgets"] | found.get("runtimes", {})).items():
            first, second = (100 * share for share in shares.values())
            lines.append(f"| | of known classes, {way} | {first:.1f} | {second:.1f} | | |")
    return "\n".join(lines)


def main(
    data: Annotated[Path, typer.Option(help="Folder of the data sets and of DeiT-Tiny's weights.")] = DATA,
    images: Annotated[int, typer.Option(help="To learn of each class.")] = 20,
    judges: Annotated[int, typer.Option(help="To ask about, of each class.")] = 10,
    seed: Annotated[int, typer.Option(help="Of which classes are known.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="The bundled backbone on CIFAR-100 alone.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to keep the figures.")] = None,
) -> None:
    """Measure, print the table, keep the figures."""
    found = {}
    for name, called, spec in scenes(data, quick):
        rounded = (called, name) == ("DeiT-Tiny", "cub100")
        found[f"{name}, {called}"] = measure(spec, name, data, images, judges, seed, rounded=rounded)
    figures = {"images": images, "judges": judges, "seed": seed, "scenes": found}
    typer.echo(table(figures))
    keep(figures, out)


if __name__ == "__main__":
    typer.run(main)
