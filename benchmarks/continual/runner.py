"""One run: a method, a protocol, a seed. Continues after the last finished task when it was interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch

from benchmarks.continual.cost import giga_multiply_adds, peak_memory_mib
from benchmarks.continual.data import choose, load
from benchmarks.continual.methods import Recipe
from benchmarks.continual.methods.base import Images, Method, Setting, percent_right
from benchmarks.continual.metrics import (
    Probe,
    accuracy,
    average_anytime_accuracy,
    backward_transfer,
    expected_calibration_error,
    forgetting,
    last_accuracy,
    minimum_accuracy,
    worst_case_accuracy,
)
from benchmarks.continual.observer import Observer
from benchmarks.continual.overrides import override
from benchmarks.continual.protocols import Protocol
from benchmarks.continual.streams import SCENARIOS, Experience
from model.backbone import load_backbone
from model.spec import BackboneSpec
from trainer.learning.task import Task

PROBE_EVERY = 32
"""Updates between two probes, once a task's first steps are past."""


@dataclass(frozen=True, slots=True)
class Run:
    """What is run. limit_tasks: stop after so many, for a quick look; None runs all."""

    method: str
    protocol: Protocol
    config: Any
    seed: int = 0
    limit_tasks: int | None = None

    def described(self) -> dict[str, Any]:
        """As plain JSON."""
        return json.loads(json.dumps(asdict(self), default=str))


@dataclass(slots=True)
class Record:
    """What was measured so far.

    matrix: see `metrics`.  fast: of each task, seconds to its fast state and that state's accuracy on it.
    images, seconds: of all tasks, how many images were learned, and how long that took, the fast states included.
    """

    matrix: list[list[float]] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    fast: list[tuple[float, float]] = field(default_factory=list)
    images: int = 0
    seconds: list[float] = field(default_factory=list)

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Record:
        """From JSON."""
        probes = [Probe(one["task"], one["step"], tuple(one["accuracies"])) for one in facts.pop("probes")]
        return cls(probes=probes, **facts)


def configure(recipe: Recipe, protocol: Protocol, seed: int, settings: Sequence[str]) -> Any:
    """A method's configuration under a protocol: its passes, the seed, then what the caller overrides."""
    fixed = []
    if recipe.schedule is not None:
        least_steps = protocol.least_steps if recipe.fills_up else 0
        schedule = {"epochs": protocol.epochs, "least_steps": least_steps, "batch": protocol.batch}
        fixed += [f"{recipe.schedule}{name}={value}" for name, value in schedule.items()]
    if recipe.seed is not None:
        fixed += [f"{recipe.seed}={seed}"]
    return override(recipe.config, (*fixed, *settings))


def stream(protocol: Protocol, seed: int, joint: bool, limit: int | None) -> tuple[Experience, ...]:
    """The tasks to learn. A joint run learns them all as the first one."""
    sources = load(protocol.data, protocol.folder)
    dataset = choose(*sources, protocol.train_per_class, protocol.test_per_class, protocol.split)
    experiences = SCENARIOS[protocol.scenario](dataset, protocol.tasks, seed)[:limit]
    if not joint:
        return experiences
    together = reduce(add, (experience.train for experience in experiences))
    return (replace(experiences[0], train=together), *experiences[1:])


def run(
    what: Run, recipe: Recipe, folder: Path, progress: Callable[[int, int, float], None]
) -> dict[str, Any]:
    """Learn, judge, and return the figures. folder: where an unfinished run is kept; gone at the end.

    progress: called with the task's number, how many images it trains on in all, and how many were just trained.
    """
    protocol = what.protocol
    device = torch.device(protocol.device)
    backbone = load_backbone(BackboneSpec(protocol.backbone, protocol.weights, protocol.px)).to(device)
    experiences = stream(protocol, what.seed, recipe.joint, what.limit_tasks)
    method = recipe.build(what.config, Setting(backbone, what.seed, len(experiences)))
    tests = [Images(f"{one.id} test", one.test.pixels(protocol.px), one.test.names) for one in experiences]
    record = resume(what, method, folder)
    with precision(protocol, device):
        for number in range(len(record.matrix), 1 if recipe.joint else len(experiences)):
            judges = tests if recipe.joint else tests[: number + 1]
            learn(what, method, experiences, judges, record, number, progress)
            keep(what, method, record, folder)
        figures = summarise(what, method, recipe, tests, record)
    shutil.rmtree(folder, ignore_errors=True)
    return figures


def learn(
    what: Run,
    method: Method,
    experiences: Sequence[Experience],
    judges: Sequence[Images],
    record: Record,
    number: int,
    progress: Callable[[int, int, float], None],
) -> None:
    """One task, and its row of the matrix: judges are the test images of each task in that row."""
    protocol, experience = what.protocol, experiences[number]
    task = Task(experience.id, experience.train.pixels(protocol.px), experience.train.names)
    probed = judges[:number] if protocol.probe_per_class else ()
    old = [few(images, protocol.probe_per_class) for images in probed]
    total = protocol.shown(len(task.labels))
    observer = Observer(
        method, number, old, judges[number], PROBE_EVERY, lambda images: progress(number, total, images)
    )
    method.learn(task, observer)
    observer.finish()
    record.matrix.append(
        [percent_right(method.scores(images), method.labels, images.names) for images in judges]
    )
    record.probes += observer.probes
    record.images += len(task.labels)
    record.seconds.append(observer.seconds)
    if observer.fast:
        record.fast.append(observer.fast)
        record.seconds[-1] += observer.fast[0]


def keep(what: Run, method: Method, record: Record, folder: Path) -> None:
    """Make this the point to resume from: whole or not at all."""
    done = len(record.matrix)
    state = folder / str(done)
    state.mkdir(parents=True, exist_ok=True)
    method.save(state / "method.safetensors")
    temporary = folder / "record.part"
    temporary.write_text(json.dumps({"what": what.described(), "record": asdict(record)}))
    temporary.replace(folder / "record.json")
    shutil.rmtree(folder / str(done - 1), ignore_errors=True)


def resume(what: Run, method: Method, folder: Path) -> Record:
    """Load what an interrupted run of exactly this kind left, or start anew."""
    path = folder / "record.json"
    if not path.exists():
        return Record()
    facts = json.loads(path.read_text())
    if facts["what"] != what.described():
        return Record()
    record = Record.read(facts["record"])
    method.load(folder / str(len(record.matrix)) / "method.safetensors")
    return record


def calibration(method: Method, tests: Sequence[Images]) -> float:
    """ECE in percent of the answers to all test images in the end."""
    scores = torch.cat([method.scores(images).double().softmax(dim=1).cpu() for images in tests])
    names = [name for images in tests for name in images.names]
    answers = [method.labels[row] for row in scores.argmax(dim=1).tolist()]
    right = torch.tensor([name == answer for name, answer in zip(names, answers, strict=True)])
    return expected_calibration_error(scores, right)


def precision(protocol: Protocol, device: torch.device) -> torch.autocast:
    """bf16 where asked, and on CUDA where nothing was asked."""
    chosen = protocol.precision or ("bf16" if device.type == "cuda" else "fp32")
    if chosen not in ("fp32", "bf16"):
        raise ValueError(f"precision is {chosen!r}; it must be fp32 or bf16")
    return torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bf16")


def few(images: Images, per_name: int) -> Images:
    """The first `per_name` images of each name."""
    seen: dict[str, int] = {}
    places = []
    for place, name in enumerate(images.names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] <= per_name:
            places.append(place)
    return Images(f"{images.id}, few", images.pixels[places], tuple(images.names[place] for place in places))


def summarise(
    what: Run, method: Method, recipe: Recipe, tests: Sequence[Images], record: Record
) -> dict[str, Any]:
    """All figures of a finished run. Those over time are missing from a joint one, which has no time."""
    matrix, seconds = record.matrix, sum(record.seconds)
    device = torch.device(what.protocol.device)
    over_time: dict[str, Any] = {}
    if not recipe.joint:
        over_time = {
            "aaa": average_anytime_accuracy(matrix),
            "forgetting": forgetting(matrix),
            "bwt": backward_transfer(matrix),
            "accuracy": accuracy(matrix),
        }
    if record.probes:
        over_time |= {
            "min_acc": minimum_accuracy(record.probes, len(matrix)),
            "wc_acc": worst_case_accuracy(record.probes, matrix),
            "probes": [asdict(probe) for probe in record.probes],
        }
    return {
        "method": what.method,
        "seed": what.seed,
        "last": last_accuracy(matrix),
        "ece": calibration(method, tests),
        **over_time,
        "matrix": matrix,
        "train_seconds": seconds,
        "images_per_second": record.images / seconds,
        "giga_multiply_adds": giga_multiply_adds(method, what.protocol.px, device),
        "trainable_parameters": method.trainable,
        "peak_memory_mib": peak_memory_mib(device),
        "fast": [
            {"seconds": took, "accuracy": fast, "consolidated": row[-1]}
            for (took, fast), row in zip(record.fast, matrix, strict=False)
        ],
        "own": method.report(tests),
        "config": what.described(),
    }
