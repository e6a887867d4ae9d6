"""The promises of the whole path, measured from outside: `python -m benchmarks.end_to_end --out FILE.json`.

Starts everything as a user would (`hippotune up`) and, over HTTP,

* teaches tasks of 100 photographs and times each from its acceptance to the first answer by a version that knows it;
* classifies without pause while versions are swapped back and forth, and looks for answers that failed or that give
  one version's number with another version's labels or scores.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.continual.data import load_archive
from benchmarks.fetch import DATA, DEIT, WEIGHTS
from benchmarks.machine import keep
from hippotune import Client
from hippotune.errors import HippoTuneError
from hippotune.records import Classification
from hippotune.supervision import everything

CLASSES, IMAGES = 10, 10
"""Classes of a task, and images of each."""
POLL_S = 0.01
TOLERANCE = 0.05
"""Two runtimes and two batch sizes differ in the last digits of a score, two versions in the first."""


def main(
    data: Annotated[Path, typer.Option(help="Folder with DeiT-Tiny and CUB-100.")] = DATA,
    tasks: Annotated[int, typer.Option(help="Tasks of 100 images to teach.")] = 5,
    swaps: Annotated[int, typer.Option(help="Swaps under load.")] = 100,
    callers: Annotated[int, typer.Option(help="Callers that classify without pause meanwhile.")] = 4,
    out: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
) -> None:
    """Measure, print, keep."""
    examples = photographs(data / "cub100_train_webp.npz")
    options = ["--backbone", DEIT, "--weights", str(data / WEIGHTS), "--validation-share", "0"]
    options += ["--epochs", "0"]  # the slots' training comes after what is measured here
    with (
        tempfile.TemporaryDirectory() as store,
        everything(Path(store), "--port", "0", *options) as (address, _),
        Client(address, retries=0) as client,
    ):
        seconds, images = [], []
        for start in range(0, tasks * CLASSES * IMAGES, CLASSES * IMAGES):
            task = examples[start : start + CLASSES * IMAGES]
            seconds.append(seconds_to_served(client, task))
            images.append(task[0][0])
        figures = {
            "command": "python -m benchmarks.end_to_end",
            "backbone": f"{DEIT} at 224 px",
            "images_a_task": CLASSES * IMAGES,
            "seconds_from_accepted_to_served": seconds,
            "median_seconds_from_accepted_to_served": statistics.median(seconds),
            "swaps": swap_under_load(client, images, swaps, callers),
        }
    keep(figures, out)


def photographs(archive: Path) -> list[tuple[bytes, str]]:
    """CUB-100's first images of each class, encoded, class by class."""
    source = load_archive(archive)
    return [
        (source.read(row), name)
        for label, name in enumerate(source.classes)
        for row in source.of_class(label)[:IMAGES]
    ]


def seconds_to_served(client: Client, task: Sequence[tuple[bytes, str]]) -> float:
    """From the 202 to the first answer by a version that knows the task; then waits until it is consolidated."""
    accepted = client.submit(list(task), name=task[0][1])
    began = time.perf_counter()
    while not knows(client, task[0][0], accepted.id):
        time.sleep(POLL_S)
    seconds = time.perf_counter() - began
    client.wait(accepted)
    return seconds


def knows(client: Client, image: bytes, task: str) -> bool:
    """Whether the version that answers has learned a task."""
    try:
        version = client.version(client.classify(image).version)
    except HippoTuneError:
        return False  # nothing learned yet
    return task in (*version.fast, *version.consolidated)


def swap_under_load(client: Client, images: Sequence[bytes], swaps: int, callers: int) -> dict[str, Any]:
    """Swap between the newest versions while callers classify; count what went wrong."""
    versions = [version.version for version in client.versions()][:4]
    expected = {version: answers_of(client, version, images) for version in versions}
    done, failed = threading.Event(), itertools.count()
    differences: list[float] = []

    def ask() -> None:
        for image in itertools.cycle(images):
            if done.is_set():
                return
            try:
                answer = client.classify(image)
            except HippoTuneError:
                next(failed)
                continue
            differences.append(difference(answer, expected[answer.version][image]))

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    turns = itertools.islice(itertools.cycle(versions), swaps)
    try:
        seconds = [activate(client, version, images[0]) for version in turns]
    finally:  # a swap that fails must not leave callers that ask for ever
        done.set()
        for thread in threads:
            thread.join()
    return {
        "swaps": swaps,
        "answered": len(differences),
        "failed": next(failed),
        "mixed_versions": sum(one > TOLERANCE for one in differences),
        "largest_score_difference": max(differences),
        "median_seconds_from_activate_to_first_answer": statistics.median(seconds),
    }


def answers_of(client: Client, version: int, images: Sequence[bytes]) -> dict[bytes, Classification]:
    """What a version answers when nothing else is going on."""
    activate(client, version, images[0])
    return {image: client.classify(image) for image in images}


def activate(client: Client, version: int, image: bytes) -> float:
    """Seconds from asking for a version to its first answer."""
    began = time.perf_counter()
    client.activate(version)
    while client.classify(image).version != version:
        time.sleep(POLL_S)
    return time.perf_counter() - began


def difference(answer: Classification, expected: Classification) -> float:
    """Largest difference of a score; 1 when the labels are others."""
    ours = {one.label: one.score for one in answer.predictions}
    theirs = {one.label: one.score for one in expected.predictions}
    if ours.keys() != theirs.keys():
        return 1.0
    return max(abs(ours[label] - theirs[label]) for label in ours)


if __name__ == "__main__":
    typer.run(main)
