"""The claims of one term: taken, reported on, and brought to one of the ends that a task can have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import structlog

from exchange.errors import ExchangeError, ExchangeUnavailable, TaskWithdrawn, told_of
from exchange.records import Claim, LabelChange, TaskChange, TaskState
from exchange.work import WorkQueue
from trainer.config import TrainerConfig
from trainer.intake.corrected_features import Correction
from trainer.learning.task import Task

log = structlog.get_logger()


class Stopping(Exception):
    """Raised inside learning when the trainer was asked to stop."""


class Abandoned(Exception):
    """Raised inside training when its task is to be forgotten, or builds on what is no longer served."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A claimed task, served by the fast head, waiting to be consolidated.

    part: what of it is served so far; None for all.
    """

    claim: Claim
    task: Task
    part: Task | None = None

    @property
    def shown(self) -> Task:
        """The images that are served."""
        return self.part or self.task


@dataclass(frozen=True, slots=True)
class Order:
    """A claimed order to rename or forget a class, waiting for its turn.

    change: what it does.  after: ids of the tasks that were sent before it and waited when it came.
    """

    claim: Claim
    change: LabelChange
    after: frozenset[str]


class Claims:
    """Owns everything claimed under one lease, and what of it waits to be learned for good."""

    def __init__(self, queue: WorkQueue, lease_token: int, config: TrainerConfig) -> None:
        self.queue, self.lease_token, self.config = queue, lease_token, config
        self._held: dict[str, Claim] = {}
        self._working: tuple[Claim, ...] = ()
        self._pending: list[Pending] = []
        self._corrections: list[Correction] = []
        self._orders: list[Order] = []

    @property
    def pending(self) -> tuple[Pending, ...]:
        """Tasks that wait to be consolidated, oldest first."""
        return tuple(self._pending)

    @property
    def unfinished(self) -> Pending | None:
        """The oldest task that is served only in part."""
        return next((pending for pending in self._pending if pending.part), None)

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """Corrections that wait to be learned for good, oldest first."""
        return tuple(self._corrections)

    @property
    def orders(self) -> tuple[Order, ...]:
        """Orders that wait for their turn, oldest first."""
        return tuple(self._orders)

    @property
    def due(self) -> Order | None:
        """The oldest order, once no task that was sent before it waits any more."""
        if not self._orders:
            return None
        oldest, waiting = self._orders[0], {pending.task.id for pending in self._pending}
        return None if oldest.after & waiting else oldest

    @property
    def waiting(self) -> list[Claim]:
        """The claims of everything that only the head knows so far."""
        return [pending.claim for pending in self._pending] + [held.claim for held in self._corrections]

    @property
    def have_room(self) -> bool:
        """Whether another task may be held in memory; one always may."""
        held_bytes = sum(pending.task.pixels.nbytes for pending in self._pending)
        return not self._pending or held_bytes < self.config.max_pending_mb << 20

    def add(self, pending: Pending) -> None:
        """Let a task wait to be consolidated."""
        self._pending.append(pending)

    def show_all(self, pending: Pending) -> None:
        """Let all of a task that waits be served."""
        self._pending[self._pending.index(pending)] = replace(pending, part=None)

    def add_corrections(self, corrections: Iterable[Correction]) -> None:
        """Let corrections wait to be learned for good."""
        self._corrections.extend(corrections)

    def add_order(self, claim: Claim, change: LabelChange) -> None:
        """Let an order wait for its turn."""
        after = frozenset(pending.task.id for pending in self._pending)
        self._orders.append(Order(claim, change, after))

    def take(self, block_ms: int) -> Claim | None:
        """The next task, held from now on; None when there is none within `block_ms` milliseconds. Raises LeaseLost.

        None at once while pending tasks fill the memory meant for them: after a crash all of them come back, before
        anything that nobody was given yet, and have to fit again.
        """
        if not self.have_room:
            return None
        claim = self.queue.claim(self.config.consumer, block_ms, self.lease_token)
        if claim:
            self._held[claim.entry_id] = claim
        return claim

    def give_back(self) -> None:
        """Return everything held; what Redis cannot be told of now, the next holder of the lease is given all the same.

        Redis is asked no more once it was away: each time it takes seconds to find out.
        """
        with contextlib.suppress(ExchangeUnavailable):
            for claim in self._held.values():
                self.queue.release(claim)
        self._held.clear()

    def report(self, claim: Claim, change: TaskChange) -> None:
        """Tell how far a task is. Raises LeaseLost and TaskWithdrawn."""
        self.queue.report(claim, change)

    @contextlib.contextmanager
    def working_on(self, *claims: Claim) -> Iterator[None]:
        """Inside, a crash counts against these tasks alone, and not against the work that they may interrupt.

        An exception that ends the trainer is recorded on them first, so that a dead letter shows the cause.
        """
        interrupted = self._working
        self._turn_to(claims)
        try:
            yield
        except (ExchangeError, Stopping, Abandoned):
            self._turn_to(interrupted)
            raise
        except Exception as error:
            if self._working is claims:  # else it came out of work that interrupted this one
                self._record(error)
            raise
        self._turn_to(interrupted)

    def _turn_to(self, claims: tuple[Claim, ...]) -> None:
        self._working = claims
        # Without Redis a crash goes uncounted, or counts against another.
        with contextlib.suppress(ExchangeUnavailable):
            self.queue.work_on(claims, self.lease_token)

    def _record(self, error: Exception) -> None:
        for claim in self._working:
            with contextlib.suppress(ExchangeError):
                self.report(claim, TaskChange(error=f"{type(error).__name__}: {told_of(error)}"))

    @contextlib.contextmanager
    def unless_withdrawn(self, claim: Claim) -> Iterator[None]:
        """Inside, a task that is found to have been withdrawn is given up: the order to forget it follows."""
        try:
            yield
        except TaskWithdrawn:
            self.acknowledge(claim)

    def finish(self, claim: Claim, metrics: Mapping[str, float], version: int | None) -> None:
        """Report a task as learned for good, and acknowledge it."""
        self.report(claim, TaskChange(TaskState.CONSOLIDATED, progress=1.0, metrics=metrics, version=version))
        self.acknowledge(claim)

    def fail(self, claim: Claim, reason: str) -> None:
        """Make a task a dead letter, which waits no more."""
        self._let_go(claim)
        self.queue.fail(claim, reason)
        log.warning("task given up", task=claim.task.id, reason=reason)

    def acknowledge(self, claim: Claim) -> None:
        """Give a claim up for good: it is not delivered again, and waits no more. Raises LeaseLost."""
        self._let_go(claim)
        self.queue.finish(claim)

    def _let_go(self, claim: Claim) -> None:
        task = claim.task.id
        self._pending = [pending for pending in self._pending if pending.task.id != task]
        self._corrections = [held for held in self._corrections if held.claim.task.id != task]
        self._orders = [order for order in self._orders if order.claim.task.id != task]
        self._held.pop(claim.entry_id, None)
