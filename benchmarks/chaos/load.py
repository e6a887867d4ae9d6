"""Callers that never stop: they classify, hand in tasks and have some forgotten, at whichever server answers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.chaos.fleet import Fleet
from exchange.errors import ExchangeUnavailable, VersionCorrupt, VersionNotFound, VersionUnreadable
from exchange.records import TaskState
from exchange.shelf import Shelf
from hippotune import Client, HippoTuneError, Refused
from hippotune.demo.data import Example

T = TypeVar("T")

PATIENCE_S = 60.0
TRY_S = 3.0
"""A server that is being started accepts connections before it answers: then the other one is asked."""
PAUSE_S = 0.1
MOST_WAITING = 3
IMAGES = 6
FORGET_EACH = 5
WINDOW_S = 10.0


@dataclass(slots=True)
class Seen:
    """What the callers saw. answered: (when, seconds) of each answer.  tasks: accepted ids, in order."""

    answered: list[tuple[float, float]] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)
    lost: int = 0
    torn: set[int] = field(default_factory=set)
    checked: set[int] = field(default_factory=set)

    def worst_p99_s(self) -> float:
        """The largest 99th percentile of any ten seconds, tries at servers that were down included."""
        # By when they began: a slow answer is noted among those of later windows, where it would be one of its own.
        windows = itertools.groupby(sorted(self.answered), key=lambda one: int(one[0] / WINDOW_S))
        return max(float(np.percentile([seconds for _, seconds in window], 99)) for _, window in windows)


class Callers:
    """Threads that call until told to stop."""

    def __init__(self, fleet: Fleet, images: list[Example]) -> None:
        self.fleet, self.images, self.seen = fleet, images, Seen()
        self.clients = {address: Client(address, timeout=TRY_S, retries=0) for address, _ in fleet.servers}
        self.done = threading.Event()
        self.no_more_tasks = threading.Event()
        self.threads = [threading.Thread(target=work) for work in (self.classify, self.classify, self.teach)]
        self.threads.append(threading.Thread(target=self.look))

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()

    def call(self, work: Callable[[Client], T]) -> T | None:
        """From either server, with patience; None when it was refused for good or nobody answered in time."""
        until = time.monotonic() + PATIENCE_S
        for client in itertools.cycle(self.clients.values()):
            try:
                return work(client)
            except Refused as error:
                if not error.busy:
                    return None
            except HippoTuneError:
                pass
            if time.monotonic() > until:
                self.seen.lost += 1
                return None
            time.sleep(PAUSE_S)
        return None

    def classify(self) -> None:
        for example in itertools.cycle(self.images):
            if self.done.is_set():
                return
            began = time.monotonic()
            if self.call(lambda client, image=example.image: client.classify(image)) is not None:  # type: ignore[misc]
                self.seen.answered.append((began, time.monotonic() - began))
            else:
                time.sleep(PAUSE_S)  # nothing learned yet

    def teach(self) -> None:
        """Hand in tasks of two classes of their own as fast as they are learned; every few have one forgotten."""
        while True:
            number = len(self.seen.tasks)
            while self.unfinished() >= MOST_WAITING and not self.no_more_tasks.wait(PAUSE_S):
                pass
            if self.no_more_tasks.is_set():
                return
            start = 2 * IMAGES * number
            rows = [self.images[(start + i) % len(self.images)].image for i in range(2 * IMAGES)]
            pairs = [(image, f"{number}{'ab'[i % 2]}") for i, image in enumerate(rows)]
            task = self.call(lambda client, p=pairs, n=number: client.submit(p, f"t{n}", f"key-{n}"))  # type: ignore[misc]
            if task is not None:
                self.seen.tasks.append(task.id)
            if number % FORGET_EACH == FORGET_EACH - 1:
                gone = self.seen.tasks[-2]
                if self.call(lambda client, id_=gone: client.remove(id_)) is not None:  # type: ignore[misc]
                    self.seen.forgotten.add(gone)

    def unfinished(self) -> int:
        try:
            return self.fleet.queue.depth()
        except ExchangeUnavailable:
            return MOST_WAITING

    def look(self) -> None:
        """Check every version the moment it can be seen."""
        shelf = Shelf(Path(self.fleet.root) / "versions")
        while not self.done.wait(0.01):
            for version in shelf.numbers() - self.seen.checked:
                try:
                    for role in shelf.manifest(version).files:
                        shelf.verify(version, role)
                    self.seen.checked.add(version)
                except VersionNotFound:
                    pass  # not there yet, or gone already
                except (VersionCorrupt, VersionUnreadable):
                    if (shelf.root / f"{version:06d}.json").exists():
                        self.seen.torn.add(version)

    def wait_for_all(self) -> dict[str, TaskState]:
        """Until every accepted task has ended; their states."""
        self.no_more_tasks.set()
        while True:
            states = {task: self.fleet.queue.get(task).state for task in self.seen.tasks}
            if all(state.ended for state in states.values()):
                return states
            time.sleep(PAUSE_S)
