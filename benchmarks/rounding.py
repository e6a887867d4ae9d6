"""What rounder numbers buy and cost: `python -m benchmarks.rounding --out benchmarks/results/rounding.json`.

The runtimes that round, each beside onnx in float32, at the full budget. Accuracy: with DeiT-Tiny, after all tasks of
CIFAR-100 and of CUB-100, learned in float32 from a few images a class. Time: the median over rounds of a ratio, the
two measured in turns, with DeiT-Tiny and with ViT-B/16, whose weights are random, since no time depends on them.
`benchmarks.serving.page` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.budgets import BATCHES, Judged, answers, learn, relative_time, share
from benchmarks.fetch import DATA, WEIGHTS
from benchmarks.loop import DEIT_TINY, untrained
from benchmarks.machine import keep
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.sample import sample_version
from model.spec import BackboneSpec
from service.cpus import available_cpus
from service.runtimes.base import Classifier, Runtime
from service.runtimes.bfloat16 import Bfloat16Runtime
from service.runtimes.graphs import Graphs
from service.runtimes.onnx import OnnxRuntime
from service.runtimes.torch import TorchRuntime

EXACT = "onnx"
DATASETS = ("cifar100", "cub100")
SLOTS = 100
"""Of the version that is timed."""


def runtimes(on_torch: TorchRuntime, spec: BackboneSpec, graphs: Path, cores: int) -> dict[str, Runtime]:
    """By what `--runtime` calls them; the first is what the others are compared with."""
    exact, int8 = (
        OnnxRuntime(on_torch, Graphs(spec, on_torch.identity, graphs, int8), cores) for int8 in (False, True)
    )
    return {EXACT: exact, "torch": on_torch, "torch-bf16": Bfloat16Runtime(on_torch), "onnx-int8": int8}


def accuracies(
    classifiers: Mapping[str, Classifier], version: Checkpoint, judged: Judged
) -> dict[str, dict[str, float]]:
    """Of each, the share of images answered rightly, and answered as the first one does, 0..1."""
    full = version.loop.budget
    best = {name: answers(one, version, judged, full)[0] for name, one in classifiers.items()}
    exact = next(iter(best.values()))
    return {
        name: {"accuracy": share(found, judged.labels), "agreement": share(found, exact)}
        for name, found in best.items()
    }


def times(
    classifiers: Mapping[str, Classifier], px: int, budget: Budget, rounds: int
) -> dict[str, dict[str, float]]:
    """Of each but the first, time over that one's, a ratio for each of `BATCHES`."""
    (_, exact), *others = classifiers.items()
    pixels = np.random.default_rng(0).integers(0, 255, (max(BATCHES), 3, px, px), dtype=np.uint8)
    return {
        name: {
            f"batch_{batch}": relative_time((one, budget), (exact, budget), pixels[:batch], rounds)
            for batch in BATCHES
        }
        for name, one in others
    }


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, a row a runtime."""
    judged, timed = figures["accuracy"], figures["time"]
    head = [f"{name}: right | as {EXACT}" for name in judged]
    head += [f"{name}: time, batch 1 | batch 8" for name in timed]
    lines = [f"| runtime | {' | '.join(head)} |", f"|---|{'---|' * 2 * len(head)}"]
    for name in next(iter(judged.values())):
        cells = [
            f"{100 * one[name][figure]:.1f} %"
            for one in judged.values()
            for figure in ("accuracy", "agreement")
        ]
        cells += [
            f"{one[name][f'batch_{batch}']:.2f}x" if name in one else "1"
            for one in timed.values()
            for batch in BATCHES
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measured_times(
    specs: Sequence[BackboneSpec], graphs: Path, cores: int, rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    """By the backbone's name; see `times`."""
    found = {}
    for spec in specs:
        on_torch = TorchRuntime.load(spec, "cpu", cores)
        version = sample_version(on_torch.backbone, LoopConfig(), SLOTS)
        ready = {name: one.prepare(version) for name, one in runtimes(on_torch, spec, graphs, cores).items()}
        found[spec.name] = times(ready, on_torch.identity.px, version.loop.budget, rounds)
    return found


def main(
    out: Annotated[Path | None, typer.Option(help="Where to write the figures.")] = None,
    quick: Annotated[bool, typer.Option(help="Two tasks, few images, DeiT-Tiny alone.")] = False,
    data: Annotated[Path, typer.Option(help="Folder with the archives and DeiT-Tiny.")] = DATA,
    threads: Annotated[int | None, typer.Option(help="CPU threads; else what the machine grants.")] = None,
    graphs: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = Path(".cache/graphs"),
) -> None:
    """Measure the runtimes that round."""
    spec, cores = replace(DEIT_TINY, weights=data / WEIGHTS), threads or available_cpus()
    tasks, images, judges, rounds = (2, 10, 5, 3) if quick else (10, 20, 20, 10)
    on_torch = TorchRuntime.load(spec, "cpu", cores)
    able = runtimes(on_torch, spec, graphs, cores)
    judged = {}
    for name in DATASETS[:1] if quick else DATASETS:
        version, tests = learn(on_torch, data, name, tasks, images, judges)
        judged[name] = accuracies({key: one.prepare(version) for key, one in able.items()}, version, tests)
    with TemporaryDirectory() as folder:
        larger = [] if quick else [untrained("vit_base_patch16_224", Path(folder))]
        timed = measured_times([spec, *larger], graphs, cores, rounds)
    figures = {"accuracy": judged, "time": timed}
    print(table(figures))
    setting = {
        "command": f"python -m benchmarks.rounding{' --quick' if quick else ''}",
        "backbone": f"{spec.name} at {on_torch.identity.px} px",
        "classes": 10 * tasks,
        "images_a_class": images,
        "test_images_a_class": judges,
        "threads": cores,
    }
    keep({**setting, **figures}, out)


if __name__ == "__main__":
    typer.run(main)
