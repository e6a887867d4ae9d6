"""The batching engine: one thread that takes whatever waits whenever it is free.

No timer. While a forward pass runs, images gather; when it ends, all of them, up to `max_batch`, become the
next one. At low load every request is alone and waits for nobody, at high load batches fill by themselves.

The queue counts images, not requests, and a request of many images is split over batches. All of them are
answered by one version: the first batch that holds one of them takes the reference, the rest keep it.

Requests that keep different shares of their tokens have tensors of different shapes and do not share a batch. Nor do
those that want an explanation and others, which some runtimes compute in different precision: nobody's answer depends
on what strangers ask. A request that names a time instead is given the largest share that is expected to meet it, at
the moment its turn comes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import structlog

from model.budget import Budget
from service.engine.pace import Pace
from service.engine.snapshot import Served
from service.engine.tickets import Batch, Item, Scored, Started, Ticket, fail, resolve
from service.http.problems import Problem
from service.metrics import Metrics
from service.runtimes.base import Output

log = structlog.get_logger(__name__)

ANSWERING_S = 0.001
"""Longer than it takes to write an answer."""


class Engine:
    """Scores images in a thread of its own. Call `start` and `stop` once each."""

    def __init__(
        self, served: Served, max_batch: int, queue_images: int, metrics: Metrics, pace: Pace
    ) -> None:
        self._served = served
        self._max_batch = max_batch
        self._queue_images = queue_images
        self._metrics = metrics
        self._pace = pace
        self._admitted = 0
        self._waiting: deque[Item] = deque()
        self._in_hand: list[Ticket] = []
        self._calls: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the running batch. What still waits is answered with a problem."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """False from the moment its thread takes no more work, for whatever reason."""
        return self._thread.is_alive() and not self._stopping

    def require_room(self, images: int = 1) -> None:
        """Raise Problem 429 when so many more would not be admitted. From the event loop only."""
        if self._admitted + images > self._queue_images:
            raise Problem(429, f"{self._admitted} images wait already; at most {self._queue_images} may")

    @property
    def admitted(self) -> int:
        """Images admitted and not yet answered."""
        return self._admitted

    @contextmanager
    def admit(self, images: int) -> Iterator[None]:
        """Hold places from before decoding until the answer. From the event loop only. Raises Problem 429."""
        self.require_room(images)
        self._admitted += images
        self._metrics.queue_depth.set(self._admitted)
        try:
            yield
        finally:
            self._admitted -= images
            self._metrics.queue_depth.set(self._admitted)

    def enqueue(self, ticket: Ticket) -> None:
        """From the event loop; then await the ticket's `done`. Raises Problem 503."""
        with self._changed:
            if self._stopping:
                raise Problem(503, "the server is stopping")
            self._waiting.extend(Item(ticket, image) for image in ticket.images)
            self._changed.notify()

    def withdraw(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more: compute none of its images that still wait."""
        with self._changed:
            self._waiting = deque(item for item in self._waiting if item.ticket is not ticket)
        ticket.done.cancel()

    def call(self, work: Callable[[], None]) -> Future[None]:
        """Run something in the engine's thread, between two batches. Cancelled once that has ended."""
        future: Future[None] = Future()
        with self._changed:
            if self._stopping:
                future.cancel()
                return future
            self._calls.append((work, future))
            self._changed.notify()
        return future

    def _run(self) -> None:
        try:
            self._work()
        finally:  # whatever it was that ended this thread, nobody waits for it any more
            with self._changed:
                self._stopping = True
                calls = list(self._calls)
                self._calls.clear()
            for _, future in calls:
                future.cancel()
            waiting = [*self._in_hand, *(item.ticket for item in self._waiting)]
            fail(waiting, Problem(503, "the server is stopping"))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._waiting or self._calls)
                if self._stopping:
                    return
                call = self._calls.popleft() if self._calls else None
                batch = self._take() if self._waiting else None
            self._in_hand = [item.ticket for item in batch.items] if batch else []
            if call is not None:
                attend(*call)
            if batch is not None:
                self._score(batch)
                self._in_hand = []

    def _start(self, ticket: Ticket, images: int, now: float) -> Started:
        """What answers a ticket whose turn comes now, in a pass of so many images.

        The newest version for its bucket, or, where that knows no label, the one that the ticket was checked against.
        """
        newest = self._served.at(ticket.bucket)
        snapshot = newest if newest is not None and newest.labels else ticket.checked
        budget = snapshot.grant(ticket.asked)
        if ticket.target is not None:
            budget = self._pace.deepest(budget, images, ticket.target - now)
        return Started(snapshot, budget, ticket.explain)

    def _take(self) -> Batch | None:
        """The next images that share a pass, oldest first; None when nobody waits for any of them."""
        now, images = perf_counter(), min(len(self._waiting), self._max_batch)
        items: list[Item] = []
        budgets: list[Budget] = []
        first: Started | None = None
        others: deque[Item] = deque()
        while self._waiting and len(items) < self._max_batch:
            item = self._waiting.popleft()
            ticket = item.ticket
            if ticket.done.done():
                continue
            if now > ticket.deadline and ticket.started is None:
                fail([ticket], Problem(504, "the deadline passed before the image's turn came"))
                continue
            started = ticket.started or self._start(ticket, images, now)
            first = first or started
            if started.shares(first):
                ticket.started = started
                items.append(item)
                budgets.append(started.budget)
            else:
                others.append(item)  # its budget stays open: its own pass may be smaller
        self._waiting.extendleft(reversed(others))
        return None if first is None else Batch(first.snapshot, items, budgets, first.explain)

    def _score(self, batch: Batch) -> None:
        began = perf_counter()
        tickets = [item.ticket for item in batch.items]
        budgets = batch.budgets
        try:
            pixels = np.stack([item.image for item in batch.items])
            output = batch.snapshot.classifier.classify(pixels, budgets, batch.explain)
        except Exception as error:  # one bad batch must not end the thread
            log.exception("forward pass failed", version=batch.snapshot.version, images=len(batch.items))
            self._metrics.version_failed(batch.snapshot.version, len(batch.items))
            reason = f"the forward pass failed with {type(error).__name__}; the server's log has the rest"
            fail(tickets, Problem(500, reason))
            return
        ended = perf_counter()
        for row, (ticket, budget) in enumerate(zip(tickets, budgets, strict=True)):
            ticket.scored.append(Scored(output, row, budget, ended - began, ended))
        for ticket in dict.fromkeys(tickets):
            if len(ticket.scored) == len(ticket.images):
                ticket.loop.call_soon_threadsafe(resolve, ticket)
        self._let_answers_go()
        try:
            self._note(batch, budgets[0].keep, output, ended - began)
        except Exception:  # everybody has an answer: what fails here must not end the thread
            log.exception("a pass could not be noted", version=batch.snapshot.version)

    def _let_answers_go(self) -> None:
        """Wait a moment unless there is work: counting a pass would hold the interpreter that the answers need."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._waiting or self._calls, ANSWERING_S)

    def _note(self, batch: Batch, keep: float, output: Output, seconds: float) -> None:
        """Learn from a pass how long passes take, and count it."""
        self._pace.observe(keep, len(batch.items), seconds)
        best = output.scores.max(axis=1)
        self._metrics.version_answered(batch.snapshot.version, best, output.familiarity, seconds)
        self._metrics.batch_size.observe(len(batch.items))
        if output.steps.shape[1]:
            for steps in output.steps.mean(axis=1):
                self._metrics.steps.observe(steps)


def attend(work: Callable[[], None], future: Future[None]) -> None:
    """Run a call and tell whoever waits for it how it went."""
    try:
        work()
    except BaseException as error:  # belongs to the caller
        future.set_exception(error)
        if not isinstance(error, Exception):
            raise
    else:
        future.set_result(None)
