"""Consolidates a pending task: learns it for good, has the result examined, and serves it or a reason why not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Protocol

import structlog

from exchange.errors import ExchangeUnavailable, PointerMoved
from exchange.records import TaskChange, TaskState
from trainer.config import TrainerConfig
from trainer.duties.knowledge import Knowledge
from trainer.intake.claims import Claims, Pending
from trainer.intake.images import digests_of
from trainer.learning.describer import Between
from trainer.learning.epochs import Diverged
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.store.epoch_shelf import EpochShelf
from trainer.validation.diagnosis import diagnosed
from trainer.validation.promotion import Promotion, Refused

log = structlog.get_logger()


class LookUp(Protocol):
    """Called between two steps; may raise to abandon the task."""

    def __call__(
        self,
        pending: Pending,
        built_on: LearnerState,
        share: float | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> None: ...


class Consolidation:
    """One pending task at a time, each built on the one before."""

    def __init__(
        self,
        knowledge: Knowledge,
        claims: Claims,
        promotion: Promotion,
        epochs: EpochShelf,
        config: TrainerConfig,
        look_up: LookUp,
    ) -> None:
        self.knowledge, self.claims, self.promotion, self.epochs = knowledge, claims, promotion, epochs
        self.learner, self.lineage = knowledge.learner, knowledge.lineage
        self.config, self.look_up = config, look_up

    def consolidate(self, pending: Pending) -> None:
        """Learn a task for good and serve the result in place of its fast version. Raises Stopping, Abandoned."""
        with self.claims.working_on(pending.claim), self.claims.unless_withdrawn(pending.claim):
            with contextlib.suppress(ExchangeUnavailable):
                self.claims.report(pending.claim, TaskChange(TaskState.CONSOLIDATING))
            started, built_on = time.monotonic(), self.knowledge.base.state
            figures = noticed(pending, built_on)
            new = self.learner.unseen(built_on, pending.task)
            if new is None:
                self.claims.finish(pending.claim, figures, self.knowledge.base.version)
                return
            self.promotion.shelf.leave_out(pending.task.id, built_on.seen)

            def between() -> None:
                self.look_up(pending, built_on)

            state, trained = self.train(pending, new, between)
            try:
                state, report = self.promotion.examine(built_on, state, pending.task, between)
            except Refused as error:
                self.refuse(pending, str(error))
                return
            figures |= trained | report.metrics | diagnosed(self.learner, state.pools, pending.task)
            figures["seconds_to_consolidate"] = time.monotonic() - started
            self.knowledge.foresee(state, {pending.task.id}, between)
            self.promote(pending, state, figures)

    def train(self, pending: Pending, new: Task, between: Between) -> tuple[LearnerState, dict[str, float]]:
        """The base state with a task learned for good, and the figures of its last training step.

        Training goes on after the last finished epoch if there is one.
        new: the part of the task that the base state does not know.  between: called where no training step is made.
        """
        task, built_on = pending.task, self.knowledge.base.state
        figures: dict[str, float] = {}
        basis = self.lineage.basis(built_on, self.config.validation, new.digests.tolist())

        def progress(share: float, now: dict[str, float]) -> None:
            figures.update(now)
            self.look_up(pending, built_on, share, now)

        on_epoch, resume = self.epochs.saver(task.id, basis), self.epochs.load(task.id, basis)
        try:
            state = self.learner.consolidate(built_on, task, progress, on_epoch, resume, between)
            return state, figures
        except Diverged:
            log.warning("training diverged, slots left out", task=task.id)
            return self.learner.consolidate_head(built_on, task), figures

    def promote(self, pending: Pending, state: LearnerState, figures: dict[str, float]) -> None:
        """Serve a consolidated state, and acknowledge its task."""
        try:
            version = self.knowledge.serve_consolidated(state, figures, taken={pending.task.id})
        except PointerMoved:
            # Somebody rolled back or forward while we trained: learn it again, on what is served now.
            self.knowledge.rebase()
            return
        # How each task does is in the version's manifest; in every task's record it would grow with their square.
        own = {name: value for name, value in figures.items() if not name.startswith("accuracy.")}
        self.claims.finish(pending.claim, own, version)
        self.epochs.discard(pending.task.id)
        self.lineage.prune(self.config.keep_versions)

    def refuse(self, pending: Pending, reason: str) -> None:
        """A task that must not be served is a dead letter, and its fast version gives way."""
        self.claims.fail(pending.claim, reason)
        self.epochs.discard(pending.task.id)
        self.knowledge.withdraw()


def noticed(pending: Pending, built_on: LearnerState) -> dict[str, float]:
    """What a task's files tell before anything is learned of them; nothing where all are new, with one label each."""
    counts = {
        "repeated_images": repeated_images(pending, built_on),
        "contradicting_images": contradicting_images(pending, built_on),
    }
    return {name: float(count) for name, count in counts.items() if count}


def contradicting_images(pending: Pending, built_on: LearnerState) -> int:
    """How many of a task's files have another label, too: in the same task, or learned before."""
    task = pending.task
    return built_on.known.joined(task.seen, task.held_out).contradicting(digests_of(pending.claim.samples))


def repeated_images(pending: Pending, built_on: LearnerState) -> int:
    """How many of a task's images were not learned again: they had been under the same label, or came twice."""
    task = pending.task
    known = int((~built_on.known_of(task.labels).new(task.labels, task.digests)).sum())
    return known + len(pending.claim.samples) - len(task.labels) - len(task.held_out)
