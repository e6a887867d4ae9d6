"""What forgetting one task, or one class, costs the others: `python -m benchmarks.forgetting --out FILE.json`.

Teaches handwritten digits in five tasks to a running service, over HTTP. Then, for each task in turn, has it forgotten,
asks about every test image again, and rolls back to the version that knew all five. Then the same for each class. The
others are asked twice before: among all labels, and among those that will be left, since fewer labels alone make
answers better.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.machine import keep
from hippotune import Client
from hippotune.calls import Ask
from hippotune.demo.data import DemoTask, Example, Limits, digits
from hippotune.records import Version
from hippotune.supervision import everything

TASKS, QUICK_TASKS = 5, 2
MANY = 32
"""Images asked about in one request."""
QUICK_CLASSES = 2
"""Classes that are forgotten one by one where it is to be quick."""
QUICK_TRAINING = ("--least-steps", "10")
"""Flags of a service that is to be quick."""


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Few tasks, images and updates: half a minute.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
) -> None:
    """Teach, forget, ask, print, keep."""
    tasks = digits(Limits(tasks=QUICK_TASKS, train=20, test=5) if quick else Limits(tasks=TASKS))
    with (
        tempfile.TemporaryDirectory() as store,
        everything(Path(store), "--port", "0", *(QUICK_TRAINING if quick else ())) as (address, _),
        Client(address) as client,
    ):
        ids = [
            client.wait(client.submit([(e.image, e.label) for e in task.train], task.name)).id
            for task in tasks
        ]
        full = current(client)
        everything_known = accuracies(client, tasks)
        cases = [case(client, tasks, ids, gone, full) for gone in range(len(tasks))]
        gone_alone = full.labels[: QUICK_CLASSES if quick else None]
        classes = [class_case(client, tasks, label, full) for label in gone_alone]
    falls = [statistics.mean(one["points_lost_by_others"]) for one in cases]
    figures = {
        "command": "python -m benchmarks.forgetting" + (" --quick" if quick else ""),
        "test_images": sum(len(task.test) for task in tasks),
        "accuracy_of_each_task_before": everything_known,
        "forgotten": cases,
        "highest_accuracy_of_a_forgotten_task": max(one["accuracy_of_the_forgotten"] for one in cases),
        "points_lost_by_others_on_average": falls,
        "most_points_lost_by_others_on_average": max(falls),
        "forgotten_classes": classes,
        "highest_accuracy_of_a_forgotten_class": max(one["accuracy_of_the_forgotten"] for one in classes),
        "most_points_lost_by_other_classes": max(one["points_lost_by_others"] for one in classes),
    }
    keep(figures, out)


def case(
    client: Client, tasks: Sequence[DemoTask], ids: Sequence[str], gone: int, full: Version
) -> dict[str, Any]:
    """Have one task forgotten, ask, and go back."""
    left = [task for number, task in enumerate(tasks) if number != gone]
    labels = [label for label in full.labels if label not in {e.label for e in tasks[gone].train}]
    before = accuracies(client, left, labels)
    began = time.perf_counter()
    client.remove(ids[gone])
    seconds = followed(client, ids[gone], "forgotten", began)
    after_version = current(client)
    serve(client, after_version, tasks[0].test[0].image)
    after = accuracies(client, left)
    result = {
        "task": tasks[gone].name,
        "seconds": seconds,
        "slots": [full.slots, after_version.slots],
        "accuracy_of_the_forgotten": accuracies(client, [tasks[gone]])[0],
        "accuracy_of_others_before": before,
        "accuracy_of_others_after": after,
        "points_lost_by_others": [100 * (b - a) for b, a in zip(before, after, strict=True)],
    }
    client.activate(full.version)
    serve(client, full, tasks[0].test[0].image)
    return result


def class_case(client: Client, tasks: Sequence[DemoTask], label: str, full: Version) -> dict[str, Any]:
    """Have one class forgotten, ask, and go back."""
    tests = [example for task in tasks for example in task.test]
    gone = [example for example in tests if example.label == label]
    left = [example for example in tests if example.label != label]
    labels = [known for known in full.labels if known != label]
    before = accuracy(client, left, labels)
    began = time.perf_counter()
    seconds = followed(client, client.forget_label(label).id, "consolidated", began)
    serve(client, current(client), tests[0].image)
    after = accuracy(client, left)
    result = {
        "label": label,
        "seconds": seconds,
        "accuracy_of_the_forgotten": accuracy(client, gone),
        "accuracy_of_others_before": before,
        "accuracy_of_others_after": after,
        "points_lost_by_others": 100 * (before - after),
    }
    client.activate(full.version)
    serve(client, full, tests[0].image)
    return result


def followed(client: Client, task: str, state: str, began: float) -> float:
    """Seconds since it began, once a task has come to a state."""
    *_, ended = client.watch(task)
    assert ended.state == state, ended
    return time.perf_counter() - began


def current(client: Client) -> Version:
    return next(version for version in client.versions() if version.current)


def serve(client: Client, version: Version, image: bytes) -> None:
    """Wait until a version answers."""
    while client.classify(image).version != version.version:
        time.sleep(0.05)


def accuracies(client: Client, tasks: Sequence[DemoTask], labels: Sequence[str] | None = None) -> list[float]:
    """The share of each task's test images answered rightly, among some labels or all."""
    return [accuracy(client, task.test, labels) for task in tasks]


def accuracy(client: Client, examples: Sequence[Example], labels: Sequence[str] | None = None) -> float:
    """The share of images answered rightly, among some labels or all."""
    ask: Ask = {} if labels is None else {"labels": list(labels)}
    right = 0
    for start in range(0, len(examples), MANY):
        some = examples[start : start + MANY]
        answers = client.classify_many([example.image for example in some], **ask)
        right += sum(a.label == example.label for a, example in zip(answers, some, strict=True))
    return right / len(examples)


if __name__ == "__main__":
    typer.run(main)
