"""What each knob of a budget buys and costs: `python -m benchmarks.budgets --out benchmarks/results/budgets.json`.

Learns a few tasks, then asks about test images with one knob turned at a time, by torch and by onnx. Time is the median
over rounds of a ratio to the full budget's, the two measured in turns. Accuracy is over all test images, by onnx
alone, since both answer alike. `benchmarks.serving.page` shows the figures; `benchmarks.rounding` measures runtimes
that round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.continual.data import choose, load
from benchmarks.continual.streams import class_incremental
from benchmarks.fetch import DATA, WEIGHTS
from benchmarks.loop import DEIT_TINY
from benchmarks.machine import keep
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.network import RetrievalViT
from service.cpus import available_cpus
from service.engine.pace import KEEPS
from service.runtimes.base import Classifier
from service.runtimes.graphs import Graphs
from service.runtimes.onnx import OnnxRuntime
from service.runtimes.torch import TorchRuntime
from trainer.learning.config import LearnerConfig
from trainer.learning.learner import Learner
from trainer.learning.task import Task

KNOBS: dict[str, tuple[float, ...]] = {
    "tmax": (4, 3, 2, 1),
    "epsilon": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0),
    "topk": (10, 5, 3, 1),
    "keep": KEEPS,
}
BATCHES = (1, 8)
Asked = tuple[Classifier, Budget]


@dataclass(frozen=True)
class Judged:
    """Test images and their labels."""

    pixels: NDArray[np.uint8]
    labels: Sequence[str]


def learn(
    on_torch: TorchRuntime, data: Path, name: str, tasks: int, images: int, judges: int
) -> tuple[Checkpoint, Judged]:
    """A version that learned `tasks` tasks of ten classes, and what judges it."""
    train, test = load(name, data)
    stream = class_incremental(choose(train, test, images, judges, "test"), len(train.classes) // 10, 0)[
        :tasks
    ]
    learner = Learner(RetrievalViT(on_torch.backbone, LoopConfig()), LearnerConfig())
    state, px = learner.start(), on_torch.identity.px
    for one in stream:
        state = learner.consolidate(state, Task(one.id, one.train.pixels(px), one.train.names))
    pixels = torch.cat([one.test.pixels(px) for one in stream]).numpy()
    return learner.checkpoint(state), Judged(pixels, [label for one in stream for label in one.test.names])


def answers(
    classifier: Classifier, version: Checkpoint, judged: Judged, budget: Budget
) -> tuple[list[str], float]:
    """The best label of each test image, and the mean steps a layer they took."""
    best: list[str] = []
    steps = []
    for start in range(0, len(judged.labels), BATCHES[-1]):
        chunk = judged.pixels[start : start + BATCHES[-1]]
        output = classifier.classify(chunk, [budget] * len(chunk), explain=False)
        best += [version.labels[column] for column in output.scores.argmax(axis=1)]
        steps.append(output.steps.mean(axis=1))
    return best, float(np.concatenate(steps).mean())


def share(found: Sequence[str], wanted: Sequence[str]) -> float:
    """How many of the labels are equal, 0..1."""
    return sum(one == other for one, other in zip(found, wanted, strict=True)) / len(wanted)


def relative_time(one: Asked, other: Asked, pixels: NDArray[np.uint8], rounds: int) -> float:
    """Median of time(one) / time(other), each first in every other round."""
    ratios = []
    for turn in range(rounds + 1):
        times = {}
        for which in (0, 1) if turn % 2 else (1, 0):
            classifier, budget = (one, other)[which]
            began = perf_counter()
            classifier.classify(pixels, [budget] * len(pixels), explain=False)
            times[which] = perf_counter() - began
        ratios.append(times[0] / times[1])
    return median(ratios[1:])  # the first round is a warm-up


def settings(full: Budget) -> dict[str, list[Budget]]:
    """For each knob, the budgets that differ from the full one in it alone."""
    return {
        knob: [replace(full, **{knob: type(getattr(full, knob))(value)}) for value in values]
        for knob, values in KNOBS.items()
    }


def judge(classifier: Classifier, version: Checkpoint, judged: Judged) -> dict[Budget, dict[str, float]]:
    """Accuracy, and the mean steps a layer, of every setting."""
    found = {}
    for budget in dict.fromkeys(one for several in settings(version.loop.budget).values() for one in several):
        best, steps = answers(classifier, version, judged, budget)
        found[budget] = {"accuracy": share(best, judged.labels), "steps": steps}
    return found


def curves(
    classifier: Classifier,
    full: Budget,
    told: Mapping[Budget, Mapping[str, float]],
    pixels: NDArray[np.uint8],
    rounds: int,
) -> dict[str, Any]:
    """What was told of every setting, and how long it takes."""

    def time(budget: Budget, batch: int) -> float:
        if budget == full:
            return 1.0
        return relative_time((classifier, budget), (classifier, full), pixels[:batch], rounds)

    return {
        knob: [
            {
                knob: getattr(budget, knob),
                **told[budget],
                **{f"time_batch_{batch}": time(budget, batch) for batch in BATCHES},
            }
            for budget in budgets
        ]
        for knob, budgets in settings(full).items()
    }


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, a row a setting, with the time by each runtime; the full budget, where every knob starts, once."""
    head = ["budget", "accuracy", "steps"]
    head += [f"time, {runtime}, batch {batch}" for runtime in figures for batch in BATCHES]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    knobs = next(iter(figures.values()))
    settings = [(knob, at) for knob, rows in knobs.items() for at in range(1, len(rows))]
    for knob, at in [(next(iter(knobs)), 0), *settings]:
        row = knobs[knob][at]
        cells = [
            f"{knob} {row[knob]:g}" if at else "full",
            f"{100 * row['accuracy']:.1f} %",
            f"{row['steps']:.2f}",
        ]
        same = [curves[knob][at] for curves in figures.values()]
        cells += [f"{one[f'time_batch_{batch}']:.2f}x" for one in same for batch in BATCHES]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    out: Annotated[Path | None, typer.Option(help="Where to write the figures.")] = None,
    quick: Annotated[bool, typer.Option(help="Two tasks and few images.")] = False,
    data: Annotated[Path, typer.Option(help="Folder with the archives and DeiT-Tiny.")] = DATA,
    dataset: Annotated[str, typer.Option(help="cifar100, cub100 or imagefolder:DIR.")] = "cifar100",
    px: Annotated[int, typer.Option(help="Side of an image.")] = 224,
    threads: Annotated[int | None, typer.Option(help="CPU threads; else what the machine grants.")] = None,
    graphs: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = Path(".cache/graphs"),
) -> None:
    """Measure the knobs."""
    spec = replace(DEIT_TINY, weights=data / WEIGHTS, px=px)
    cores = threads or available_cpus()
    on_torch = TorchRuntime.load(spec, "cpu", cores)
    tasks, images, judges, rounds = (2, 10, 5, 5) if quick else (5, 20, 15, 10)
    version, judged = learn(on_torch, data, dataset, tasks, images, judges)
    on_onnx = OnnxRuntime(on_torch, Graphs(spec, on_torch.identity, graphs), cores).prepare(version)
    told, runtimes = judge(on_onnx, version, judged), {"torch": on_torch.prepare(version), "onnx": on_onnx}
    found = {
        name: curves(one, version.loop.budget, told, judged.pixels, rounds) for name, one in runtimes.items()
    }
    print(table(found))
    setting = {
        "command": f"python -m benchmarks.budgets{' --quick' if quick else ''}",
        "px": px,
        "backbone": asdict(on_torch.identity),
        "dataset": dataset,
        "tasks": tasks,
        "classes": len(version.labels),
        "test_images": len(judged.labels),
        "threads": cores,
    }
    keep({**setting, "curves": found}, out)


if __name__ == "__main__":
    typer.run(main)
