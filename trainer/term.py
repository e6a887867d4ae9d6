"""One trainer's term: what it does from taking the lease to giving it up.

Tasks are learned fast as they arrive and consolidated one after another. A task that arrives while another is being
consolidated does not wait: its fast version is learned in between, at the next training step. Only a consolidated
task is acknowledged; until then a crash hands it to the next trainer, which starts from the version being served and
from the last finished epoch. An order to forget a task is carried out as soon as it arrives.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import structlog
import torch

from exchange.errors import (
    BlobCorrupt,
    BlobMissing,
    ExchangeError,
    ExchangeUnavailable,
    PointerMoved,
    TaskNotFound,
    TaskWithdrawn,
)
from exchange.queue import TaskQueue
from exchange.records import Claim, TaskState
from trainer.data import UnusableTask, load_task
from trainer.diagnosis import diagnosed
from trainer.feedback import (
    Correction,
    Unfollowable,
    check_followable,
    correct,
    learned,
    load_correction,
)
from trainer.heartbeat import Heartbeat
from trainer.learner import Learner, Task
from trainer.lineage import Base, Lineage
from trainer.process import TrainerConfig
from trainer.promotion import Promotion, Refused
from trainer.state import LearnerState
from trainer.upkeep import Upkeep
from trainer.validation import hold_out

log = structlog.get_logger()

LOOK_UP_S = 0.2
"""How often training looks up for new tasks, a lost lease or a request to stop."""


class Stopping(Exception):
    """Raised inside learning when the trainer was asked to stop."""


class Abandoned(Exception):
    """Raised inside training when its task is to be forgotten, or builds on what is no longer served."""


class Diverged(Exception):
    """Raised inside training when a figure is no number any more."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A claimed task, served by the fast head, waiting to be consolidated."""

    claim: Claim
    task: Task


class Term:
    """Owns what this trainer knows: the base state, and the fast state served on top of it."""

    def __init__(
        self,
        learner: Learner,
        queue: TaskQueue,
        lineage: Lineage,
        heartbeat: Heartbeat,
        upkeep: Upkeep,
        config: TrainerConfig,
        stop: threading.Event,
    ) -> None:
        self.learner = Learner(learner.network, learner.config, self.pause)
        self.queue, self.lineage, self.heartbeat, self.upkeep = queue, lineage, heartbeat, upkeep
        self.config, self.stop = config, stop
        self.epochs, self.validation = upkeep.epochs, upkeep.validation
        self.promotion = Promotion(self.learner, self.validation, config.validation)
        self.pending: list[Pending] = []
        self.corrections: list[Correction] = []
        self.base = lineage.load()
        self.serving = self.base.state
        self.settled = False
        self.looked_up = 0.0

    def run(self) -> None:
        """Work until asked to stop. Raises ExchangeError, which ends the term."""
        while not self.stop.is_set():
            self.heartbeat.check()
            self.upkeep.run_when_due()
            busy = self.pending or self.corrections or not self.settled
            with contextlib.suppress(Stopping, Abandoned):
                self.accept_waiting(block_ms=0 if busy else 1000)
                if self.pending:
                    self.consolidate(self.pending[0])
                elif self.corrections:
                    self.keep_corrections()
                else:
                    self.settle()

    def pause(self) -> None:
        """Between two batches of images: notice that it is time to stop. Raises Stopping and LeaseLost."""
        if self.stop.is_set():
            raise Stopping
        self.heartbeat.check()

    def accept_waiting(self, block_ms: int) -> None:
        """Learn every waiting task with the fast head, one after another, and all waiting corrections at once.

        What is to be forgotten is forgotten.
        """
        fresh: list[Correction] = []
        while not self.stop.is_set() and (claim := self.queue.claim(self.config.consumer, block_ms)):
            self.heartbeat.add(claim)
            with self.last_words(claim):
                if claim.task.state is TaskState.FORGETTING:
                    self.serve_corrections(fresh)
                    fresh = []
                    self.forget(claim)
                elif not self.is_new(claim):
                    pass
                elif claim.corrects:
                    fresh += self.loaded(claim)
                else:
                    self.accept(claim)
            block_ms = 0
        self.serve_corrections(fresh)

    def is_new(self, claim: Claim) -> bool:
        """False for one delivered again after it was learned: the crash came before the acknowledgement."""
        if self.lineage.current() != self.base.version:
            self.rebase()
        if claim.task.id not in (*self.base.state.tasks, *self.base.state.corrected):
            return True
        self.finish(claim, self.queue.get(claim.task.id).metrics, self.base.version)
        return False

    def loaded(self, claim: Claim) -> list[Correction]:
        """A claimed correction; none when it cannot be used."""
        try:
            return [load_correction(claim, self.queue.blobs, self.learner.network.backbone.width)]
        except (UnusableTask, BlobMissing, BlobCorrupt) as error:
            self.fail(claim, str(error))
            return []

    def serve_corrections(self, fresh: list[Correction]) -> None:
        """Serve corrections by the fast head, in one version."""
        if not fresh:
            return
        if self.lineage.current() != self.base.version:
            self.rebase()
        fresh = self.followed(self.base.state, fresh)
        if not fresh:
            return
        self.corrections += fresh
        self.serving = correct(self.learner, self.serving, fresh)
        served = self.lineage.fast_tasks(self.base.version)
        again = all(correction.claim.task.id in served for correction in fresh)
        version = self.base.version if again else self.publish_fast()
        for correction in fresh:
            claim = correction.claim
            with self.last_words(claim):
                self.queue.update(claim.task.id, state=TaskState.SERVED, version=version, claim=claim)

    def followed(self, state: LearnerState, corrections: list[Correction]) -> list[Correction]:
        """Those whose features can be followed to a state; the others fail."""
        usable = []
        for correction in corrections:
            try:
                check_followable(self.learner, state, correction)
            except Unfollowable as error:
                self.fail(correction.claim, str(error))
            else:
                usable.append(correction)
        return usable

    def keep_corrections(self) -> None:
        """Learn the corrections that wait for good; with the head alone, as there is no image to train slots on."""
        kept = self.corrections
        before = self.base, self.serving
        self.base = replace(self.base, state=learned(self.learner, self.base.state, kept))
        self.serving, self.corrections = self.base.state, []
        try:
            version = self.publish({}, consolidated=True)
        except PointerMoved:
            (self.base, self.serving), self.corrections = before, kept
            self.rebase()
            return
        for correction in kept:
            with self.last_words(correction.claim):
                self.finish(correction.claim, {}, version)
        self.lineage.prune(self.config.keep_versions)

    @contextlib.contextmanager
    def last_words(self, claim: Claim) -> Iterator[None]:
        """A task that brings the trainer down says with what, so that its dead letter can tell.

        One that was withdrawn meanwhile is dropped: the order to forget it follows.
        """
        try:
            yield
        except TaskWithdrawn:
            self.drop(claim)
        except (ExchangeError, Stopping, Abandoned):
            raise
        except Exception as error:
            with contextlib.suppress(ExchangeError):
                self.queue.update(claim.task.id, error=f"{type(error).__name__}: {error}", claim=claim)
            raise

    def accept(self, claim: Claim) -> None:
        """Load a task, learn it fast, serve it."""
        started = time.monotonic()
        self.queue.update(claim.task.id, state=TaskState.LEARNING, claim=claim)
        task = self.load(claim)
        if task is None:
            return
        before, served = self.serving, self.lineage.fast_tasks(self.base.version)
        self.pending = [*self.pending, Pending(claim, task)]
        if claim.task.id in served:
            # By the trainer before this one. To publish it again would drop what else that one served until then.
            self.serving = self.learner.learn_fast(before, task)
            self.queue.update(claim.task.id, state=TaskState.SERVED, claim=claim)
            return

        def serve(state: LearnerState) -> None:
            self.serving = state
            version = self.publish_fast()
            took = {"seconds_to_fast": time.monotonic() - started}
            self.queue.update(
                claim.task.id, state=TaskState.SERVED, metrics=took, version=version, claim=claim
            )

        built_on = self.base.state
        state = self.learner.learn_fast(before, task, preview=serve)
        serve(state if self.base.state is built_on else self.with_pending(self.base.state))

    def load(self, claim: Claim) -> Task | None:
        """A task's images but for those held out; None when it cannot be learned, which is told."""
        network, config = self.learner.network, self.config
        threads = torch.get_num_threads()
        try:
            task = load_task(claim, self.queue.blobs, network.backbone.px, config.max_pixels, threads)
        except (UnusableTask, BlobMissing, BlobCorrupt) as error:
            self.fail(claim, str(error))
            return None
        task, held_out = hold_out(task, config.validation)
        if held_out is not None:
            self.validation.save(held_out)
        return task

    def publish_fast(self) -> int:
        """Publish the fast state; when somebody moved the pointer meanwhile, on top of what they chose."""
        while True:
            try:
                return self.publish({}, consolidated=False)
            except PointerMoved:
                self.rebase()

    def consolidate(self, pending: Pending) -> None:
        """Train a task's slots and serve the result in place of its fast version. Raises Stopping, Abandoned."""
        with self.last_words(pending.claim):
            started, figures = time.monotonic(), dict[str, float]()
            built_on = self.base.state
            state = self.train(pending, figures)
            try:
                state, report = self.promotion.examine(built_on, state, pending.task)
            except Refused as error:
                self.refuse(pending, str(error))
                return
            figures.update(report.metrics)
            figures.update(diagnosed(self.learner, state.pools, pending.task))
            figures["seconds_to_consolidate"] = time.monotonic() - started
            self.promote(pending, state, figures)

    def train(self, pending: Pending, figures: dict[str, float]) -> LearnerState:
        """A task's slots trained on top of the base state, from the last finished epoch if there is one."""
        task, built_on = pending.task, self.base.state
        basis = self.lineage.basis(built_on, self.config.validation)

        def progress(share: float, now: dict[str, float]) -> None:
            if not all(map(math.isfinite, now.values())):
                raise Diverged
            figures.update(now)
            self.look_up(pending, built_on, share, now)

        on_epoch, resume = self.epochs.saver(task.id, basis), self.epochs.load(task.id, basis)
        try:
            return self.learner.consolidate(built_on, task, progress, on_epoch, resume)
        except Diverged:
            log.warning("training diverged, slots left out", task=task.id)
            return self.learner.adopt(built_on, task)

    def promote(self, pending: Pending, state: LearnerState, figures: dict[str, float]) -> None:
        """Serve a consolidated state, and acknowledge its task."""
        before = self.base, self.serving, self.pending
        self.pending = self.others(pending.task.id)
        self.base, self.serving = replace(self.base, state=state), self.with_pending(state)
        try:
            version = self.publish(figures, consolidated=True)
        except PointerMoved:
            # Somebody rolled back or forward while we trained: learn it again, on what is served now.
            self.base, self.serving, self.pending = before
            self.rebase()
            return
        self.finish(pending.claim, figures, version)
        self.epochs.discard(pending.task.id)
        self.lineage.prune(self.config.keep_versions)

    def refuse(self, pending: Pending, reason: str) -> None:
        """A task that must not be served is a dead letter, and its fast version gives way."""
        self.pending = self.others(pending.task.id)
        self.fail(pending.claim, reason)
        self.epochs.discard(pending.task.id)
        self.withdraw()

    def forget(self, claim: Claim) -> None:
        """Serve a version that does not know a task, then say so. Once done, doing it again does nothing."""
        task = claim.task.id
        for held in self.claims:
            if held.task.id == task:
                self.drop(held)
        if self.lineage.current() != self.base.version:
            self.rebase()
        self.epochs.discard(task)
        self.validation.discard(task)
        figures: dict[str, float] = {}
        if task in self.base.state.tasks:
            state, report = self.promotion.forget(self.base.state, task)
            figures = report.metrics
            self.base, self.serving = replace(self.base, state=state), self.with_pending(state)
            try:
                self.publish(figures, consolidated=True)
            except PointerMoved:
                self.rebase()
                self.forget(claim)
                return
        elif task in self.lineage.fast_tasks(self.base.version):
            self.withdraw()
        self.queue.update(task, state=TaskState.FORGOTTEN, claim=claim)
        self.heartbeat.drop(claim)
        self.queue.finish(claim)
        log.info("forgotten", task=task, version=self.base.version)

    def withdraw(self) -> None:
        """Serve what is consolidated and pending, and nothing else."""
        self.serving = self.with_pending(self.base.state)
        while True:
            try:
                self.publish({}, consolidated=not (self.pending or self.corrections))
                return
            except PointerMoved:
                self.rebase()

    def settle(self) -> None:
        """At the start of a term, with nothing waiting: what an earlier one served of tasks that failed goes."""
        if not self.settled and any(map(self.is_lost, self.lineage.fast_tasks(self.base.version))):
            self.withdraw()
        self.settled = True

    def is_lost(self, task: str) -> bool:
        """Whether a task ended without being learned."""
        try:
            return self.queue.get(task).state in (TaskState.FAILED, TaskState.CANCELLED)
        except TaskNotFound:
            return False

    def look_up(
        self, pending: Pending, built_on: LearnerState, share: float, figures: dict[str, float]
    ) -> None:
        """Between two training steps: report, take new tasks, notice that it is time to stop."""
        if time.monotonic() - self.looked_up < LOOK_UP_S and share < 1:
            return
        self.pause()
        self.looked_up = time.monotonic()
        try:
            self.queue.update(
                pending.claim.task.id,
                state=TaskState.CONSOLIDATING,
                progress=share,
                metrics=figures,
                claim=pending.claim,
            )
        except ExchangeUnavailable:
            return  # Redis may be away for a while: training goes on, the next look-up reports.
        self.accept_waiting(block_ms=0)
        self.looked_up = time.monotonic()
        if self.base.state is not built_on or pending not in self.pending:
            raise Abandoned

    @property
    def claims(self) -> list[Claim]:
        """Of all that the head alone knows."""
        return [pending.claim for pending in self.pending] + [held.claim for held in self.corrections]

    def others(self, task: str) -> list[Pending]:
        """What is pending but for one task."""
        return [pending for pending in self.pending if pending.claim.task.id != task]

    def with_pending(self, state: LearnerState) -> LearnerState:
        """A base state plus the fast heads of everything still waiting to be consolidated, corrections last."""
        for pending in self.pending:
            state = self.learner.learn_fast(state, pending.task)
        self.corrections = self.followed(state, self.corrections)
        return correct(self.learner, state, self.corrections)

    def rebase(self) -> None:
        """Start again from the version that is served now."""
        self.base = self.lineage.load()
        self.serving = self.with_pending(self.base.state)
        log.info("building on another version", version=self.base.version)

    def publish(self, metrics: dict[str, float], *, consolidated: bool) -> int:
        fast = [claim.task.id for claim in self.claims]
        manifest = self.lineage.publish(
            self.base, self.serving, fast, metrics, consolidated, self.heartbeat.token
        )
        self.base = Base(self.base.state, manifest.version)
        log.info("published", version=manifest.version, kind=manifest.kind, labels=len(manifest.labels))
        return manifest.version

    def finish(self, claim: Claim, metrics: dict[str, float], version: int | None) -> None:
        """Report a task as learned for good, and acknowledge it."""
        self.queue.update(
            claim.task.id,
            state=TaskState.CONSOLIDATED,
            progress=1.0,
            metrics=metrics,
            version=version,
            claim=claim,
        )
        self.heartbeat.drop(claim)
        self.queue.finish(claim)

    def fail(self, claim: Claim, reason: str) -> None:
        """Make a task a dead letter."""
        self.heartbeat.drop(claim)
        self.queue.fail(claim, reason)
        log.warning("task cannot be learned", task=claim.task.id, reason=reason)

    def drop(self, claim: Claim) -> None:
        """Let go of a task that is not wanted any more."""
        self.pending = self.others(claim.task.id)
        self.corrections = [other for other in self.corrections if other.claim.task.id != claim.task.id]
        self.heartbeat.drop(claim)
        self.queue.finish(claim)
