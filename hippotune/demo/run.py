"""Teach a server task after task over HTTP, and ask it about held-out images after each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from hippotune.calls import Ask
from hippotune.client import Client
from hippotune.demo.data import DemoTask, Example
from hippotune.demo.report import Report
from hippotune.errors import HippoTuneError, Refused, TaskFailed
from hippotune.evaluation import strange_share
from hippotune.latency import latency
from hippotune.records import LOST, Classification, Task

POLL_S = 0.1
CALLERS = 4
LATENCY_REQUESTS = 200


Answer = Classification | None
"""None where the request failed."""


@dataclass(frozen=True, slots=True)
class Learned:
    """How a task came in. Seconds count from the moment its POST was sent; version: the consolidated one."""

    to_served: float
    to_consolidated: float
    version: int


class Audience(Protocol):
    """Whoever looks on."""

    def submitted(self, task: DemoTask) -> None:
        """A task is about to be sent."""

    def progressed(self, task: Task) -> None:
        """The server said how far it is."""

    def learned(self, task: DemoTask, learned: Learned, accuracies: Sequence[float]) -> None:
        """A task is consolidated; accuracies on it and all before it."""


class Demo:
    """One run against one server. `client` should not retry, so that every failed request is seen."""

    def __init__(self, client: Client, tasks: Sequence[DemoTask], audience: Audience) -> None:
        self._client, self._tasks, self._audience = client, tasks, audience
        self._failed: list[HippoTuneError] = []  # by several threads at once, which a count would not bear
        self._before_first = True

    def run(self, budgets: Sequence[int]) -> Report:
        """Teach every task, then measure latency at each tmax of `budgets`. Raises HippoTuneError."""
        matrix, learned = [], []
        before: list[Answer] = []
        after: list[Answer] = []
        for number, task in enumerate(self._tasks):
            if number:
                before += self._answers(task.test)
            self._audience.submitted(task)
            learned.append(self._learn(task))
            seen = self._tasks[: number + 1]
            answers = [self._answers(one.test) for one in seen]
            after = list(chain.from_iterable(answers))
            matrix.append([accuracy(one.test, given) for one, given in zip(seen, answers, strict=True)])
            self._audience.learned(task, learned[-1], matrix[-1])
        images = [example.image for task in self._tasks for example in task.test[:10]]
        measured = latency(self._client, images, [Ask(tmax=tmax) for tmax in budgets], LATENCY_REQUESTS)
        return Report(
            matrix=matrix,
            seconds_to_served=[one.to_served for one in learned],
            seconds_to_consolidated=[one.to_consolidated for one in learned],
            latency=dict(zip(budgets, measured, strict=True)),
            unknown_before=strange_share(answer.familiarity for answer in before if answer),
            unknown_after=strange_share(answer.familiarity for answer in after if answer),
            failed_requests=len(self._failed) + sum(one.failed for one in measured),
        )

    def _learn(self, task: DemoTask) -> Learned:
        """Submit a task, then ask until an answer is by a version that has learned it for good."""
        probe = task.test[0].image
        started = time.perf_counter()
        task_id = self._client.submit(
            [(example.image, example.label) for example in task.train], task.name
        ).id
        served, known = None, None
        while True:
            answer = self._ask(probe)
            now = time.perf_counter() - started
            if answer is not None and answer.version != known:
                known, self._before_first = answer.version, False
                version = self._client.version(known)
                if served is None and task_id in (*version.fast, *version.consolidated):
                    served = now
                if served is not None and task_id in version.consolidated:
                    return Learned(served, now, known)
            state = self._client.task(task_id)
            if state.state in LOST:
                raise TaskFailed(state)
            self._audience.progressed(state)
            time.sleep(POLL_S)

    def _answers(self, examples: Sequence[Example]) -> list[Answer]:
        """To each image in turn, several asked about at a time."""
        with ThreadPoolExecutor(CALLERS) as callers:
            return list(callers.map(self._ask, [example.image for example in examples]))

    def _ask(self, image: bytes) -> Answer:
        try:
            return self._client.classify(image)
        except HippoTuneError as error:
            # Before anything was learned there is no answer, and saying so is no failure.
            if not (self._before_first and isinstance(error, Refused) and error.status == 409):
                self._failed.append(error)
            return None


def accuracy(examples: Sequence[Example], answers: Sequence[Answer]) -> float:
    """Share of the answered images whose best label is right. Raises HippoTuneError where none was answered."""
    right = [a.label == e.label for a, e in zip(answers, examples, strict=True) if a is not None]
    if not right:
        raise HippoTuneError(f"none of {len(examples)} held-out images was answered")
    return sum(right) / len(right)
