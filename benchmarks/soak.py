"""An hour of work: `python -m benchmarks.soak --minutes 60 --out benchmarks/results/soak.json`; `--quick` takes three.

Four callers ask, one of them wrongly every time; a task is taught every minute, versions go back and forth, event
streams open and close. The memory of the server and its trainer is read twice a second, and the lower quartile of the
second fifth of that time compared with the last: the first fills caches and pools, and what a task takes while it
is learned is given back, so that a median would tell whether one was just being learned.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import psutil
import typer
from PIL import Image

from benchmarks.machine import keep
from benchmarks.running import Up, up
from hippotune import Client
from hippotune.encoding import png
from hippotune.errors import Refused

READ_S = 0.5
PATIENCE_S = 60.0
"""A machine with other work may keep a caller waiting; what is measured here is memory."""
MIB = 1 << 20
OPTIONS = (
    "--threads", "1", "--epochs", "0", "--keep-versions", "5", "--keep-tasks", "10", "--feedback-answers", "50",
)  # fmt: skip
"""Few of each is kept, answers that can be corrected among it: all is full before the measuring begins."""
WRONG = (
    ("/classify?tmax=99", b"x"), ("/classify", b"\xff\xd8\xffbroken"), ("/tasks", b"no archive"), ("/nowhere", b""),
)  # fmt: skip

Caller = Callable[[Up, float, Counter[str]], None]


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 60.0,
    quick: Annotated[bool, typer.Option("--quick", help="Three minutes.")] = False,
    teach_every_s: Annotated[float, typer.Option(help="Seconds between two tasks.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
) -> None:
    """Work, print, keep. Ends with 1 when memory grew by more than 2 %, or a caller was given up on."""
    seconds = 180.0 if quick else 60 * minutes
    with up(*OPTIONS) as running:
        figures = worked(running, seconds, min(teach_every_s, seconds / 18))
    keep({"command": f"python -m benchmarks.soak --minutes {seconds / 60:g}", **figures}, out)
    if figures["server_grown"] > 0.02 or figures["counts"]["callers lost"]:
        raise typer.Exit(1)


def worked(running: Up, seconds: float, teach_every_s: float) -> dict[str, Any]:
    """Let everybody work for so long."""
    end = time.monotonic() + seconds
    counts: Counter[str] = Counter()
    work: list[Caller] = [
        *[ask] * 3,
        ask_wrongly,
        lambda one, until, seen: teach(one, until, seen, teach_every_s),
        follow,
    ]
    counts["callers lost"] = 0
    threads = [threading.Thread(target=called, args=(each, running, end, counts)) for each in work]
    for thread in threads:
        thread.start()
    server = psutil.Process(running.process.pid)
    memory: dict[str, list[float]] = {"server": [], "trainer": []}
    while time.monotonic() < end:
        memory["server"].append(server.memory_info().rss / MIB)
        trainers = [child for child in server.children() if "train" in child.cmdline()]
        memory["trainer"] += [child.memory_info().rss / MIB for child in trainers]
        time.sleep(READ_S)
    for thread in threads:
        thread.join()
    told: dict[str, Any] = {"seconds": seconds, "counts": counts}
    for name, read in memory.items():
        fifth = len(read) // 5
        early, late = (
            statistics.quantiles(part, n=4)[0] for part in (read[fifth : 2 * fifth], read[-fifth:])
        )
        told |= {f"{name}_mib": [early, late], f"{name}_grown": late / early - 1}
    return told


def called(work: Caller, running: Up, end: float, counts: Counter[str]) -> None:
    try:
        work(running, end, counts)
    except Exception:
        counts["callers lost"] += 1
        raise


def ask(running: Up, end: float, counts: Counter[str]) -> None:
    with running.client(retries=3) as client:
        for number in itertools.count():
            if time.monotonic() > end:
                return
            client.classify(running.image, tmax=1 + number % 4, explain=number % 10 == 0)
            counts["answers"] += 1


def ask_wrongly(running: Up, end: float, counts: Counter[str]) -> None:
    with httpx.Client(
        base_url=running.address, headers={"X-API-Key": running.key}, timeout=PATIENCE_S
    ) as client:
        for path, body in itertools.cycle(WRONG):
            if time.monotonic() > end:
                return
            response = client.post(path, content=body, headers={"Content-Type": "application/zip"})
            counts[f"refused with {response.status_code}"] += 1
            time.sleep(0.02)


def teach(running: Up, end: float, counts: Counter[str], every_s: float) -> None:
    """The same two labels each time, and other images: what the model knows stays as large as it is."""
    random = np.random.default_rng(0)
    with running.client(retries=3) as client:
        while time.monotonic() < end:
            task = client.wait(client.submit([(noise(random), "zero"), (noise(random), "one")]))
            counts[f"tasks {task.state}"] += 1
            back_and_forth(client, counts)
            time.sleep(min(every_s, max(0.0, end - time.monotonic())))


def noise(random: np.random.Generator) -> bytes:
    """An image that was never taught: one that was would not be learned again."""
    return png(Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)))


def back_and_forth(client: Client, counts: Counter[str]) -> None:
    for version in client.versions()[1::-1]:
        try:
            client.activate(version.version)
            counts["swaps"] += 1
        except Refused:
            counts["swaps refused"] += 1


def follow(running: Up, end: float, counts: Counter[str]) -> None:
    with httpx.Client(
        base_url=running.address, headers={"X-API-Key": running.key}, timeout=PATIENCE_S
    ) as client:
        while time.monotonic() < end:
            task = client.get("/tasks?limit=1").json()["tasks"][0]["id"]
            with client.stream("GET", f"/tasks/{task}/events") as stream:
                counts["event lines"] += sum(1 for _ in stream.iter_lines())
            time.sleep(0.5)


if __name__ == "__main__":
    typer.run(main)
