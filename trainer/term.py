"""One trainer's term: what it does from taking the lease to giving it up.

Tasks are learned fast as they arrive and consolidated one after another. A task that arrives while another is being
consolidated does not wait: its fast version is learned in between, at the next training step. Only a consolidated
task is acknowledged; until then a crash hands it to the next trainer, which starts from the version being served and
from the last finished epoch.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, replace

import structlog
import torch

from exchange.errors import BlobCorrupt, BlobMissing, ExchangeUnavailable, PointerMoved
from exchange.queue import TaskQueue
from exchange.records import Claim, TaskState
from trainer.data import UnusableTask, load_task
from trainer.epoch_shelf import EpochShelf
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
from trainer.state import LearnerState
from trainer.validation import Report, ValidationShelf, hold_out, validate

log = structlog.get_logger()

LOOK_UP_S = 0.2
"""How often training looks up for new tasks, a lost lease or a request to stop."""


class Stopping(Exception):
    """Raised inside training when the trainer was asked to stop."""


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
        config: TrainerConfig,
        stop: threading.Event,
    ) -> None:
        self.learner, self.queue, self.lineage = learner, queue, lineage
        self.heartbeat, self.config, self.stop = heartbeat, config, stop
        self.epochs = EpochShelf(config.store / "epochs")
        self.validation = ValidationShelf(config.store / "validation")
        self.pending: list[Pending] = []
        self.corrections: list[Correction] = []
        self.base = lineage.load()
        self.serving = self.base.state
        self.looked_up = 0.0

    def run(self) -> None:
        """Work until asked to stop. Raises LeaseLost and ExchangeUnavailable, which end the term."""
        while not self.stop.is_set():
            self.heartbeat.check()
            self.accept_waiting(block_ms=0 if self.pending or self.corrections else 1000)
            if self.pending:
                with contextlib.suppress(Stopping):
                    self.consolidate(self.pending[0])
            elif self.corrections:
                self.keep_corrections()

    def accept_waiting(self, block_ms: int) -> None:
        """Learn every waiting task with the fast head, one after another, and all waiting corrections at once."""
        fresh: list[Correction] = []
        while not self.stop.is_set() and (claim := self.queue.claim(self.config.consumer, block_ms)):
            self.heartbeat.add(claim)
            if self.is_new(claim):
                if claim.corrects:
                    fresh += self.loaded(claim)
                else:
                    self.accept(claim)
            block_ms = 0
        if fresh:
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
            return [load_correction(claim, self.queue.blobs, self.learner.network.backbone.dim)]
        except (UnusableTask, BlobMissing, BlobCorrupt) as error:
            self.refuse(claim, str(error))
            return []

    def serve_corrections(self, fresh: list[Correction]) -> None:
        """Serve corrections by the fast head, in one version."""
        if self.lineage.current() != self.base.version:
            self.rebase()
        fresh = self.followed(self.base.state, fresh)
        if not fresh:
            return
        self.corrections += fresh
        self.serving = correct(self.learner, self.serving, fresh)
        version = self.publish_fast()
        for correction in fresh:
            claim = correction.claim
            self.queue.update(claim.task.id, state=TaskState.SERVED, version=version, claim=claim)

    def followed(self, state: LearnerState, corrections: list[Correction]) -> list[Correction]:
        """Those whose features can be followed to a state; the others fail."""
        usable = []
        for correction in corrections:
            try:
                check_followable(self.learner, state, correction)
            except Unfollowable as error:
                self.refuse(correction.claim, str(error))
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
            self.finish(correction.claim, {}, version)
        self.lineage.prune(self.config.keep_versions)

    def accept(self, claim: Claim) -> None:
        """Load a task, learn it fast, serve it."""
        started = time.monotonic()
        self.queue.update(claim.task.id, state=TaskState.LEARNING, claim=claim)
        try:
            task = load_task(
                claim,
                self.queue.blobs,
                self.learner.network.backbone.px,
                self.config.max_pixels,
                torch.get_num_threads(),
            )
        except (UnusableTask, BlobMissing, BlobCorrupt) as error:
            self.refuse(claim, str(error))
            return
        task, held_out = hold_out(task, self.config.validation)
        if held_out is not None:
            self.validation.save(held_out)
        before = self.serving
        self.pending = [*self.pending, Pending(claim, task)]

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

    def publish_fast(self) -> int:
        """Publish the fast state; when somebody moved the pointer meanwhile, on top of what they chose."""
        while True:
            try:
                return self.publish({}, consolidated=False)
            except PointerMoved:
                self.rebase()

    def consolidate(self, pending: Pending) -> None:
        """Train a task's slots and serve the result in place of its fast version. Raises Stopping."""
        task, started = pending.task, time.monotonic()
        figures: dict[str, float] = {}

        def progress(share: float, now: dict[str, float]) -> None:
            figures.update(now)
            self.look_up(pending, share, now)

        built_on = self.base.state
        basis = self.lineage.basis(built_on, self.config.validation)
        on_epoch, resume = self.epochs.saver(task.id, basis), self.epochs.load(task.id, basis)
        state = self.learner.consolidate(built_on, task, progress, on_epoch, resume)
        if self.base.state is not built_on:
            # Somebody rolled back or forward meanwhile: learn it again, on what is served now.
            self.epochs.discard(task.id)
            return
        state, report = self.validated(state, task)
        figures.update(report.metrics)
        before = self.base, self.serving, self.pending
        self.pending = [other for other in self.pending if other is not pending]
        self.base, self.serving = replace(self.base, state=state), self.with_pending(state)
        figures["seconds_to_consolidate"] = time.monotonic() - started
        try:
            version = self.publish(figures, consolidated=True)
        except PointerMoved:
            # Somebody rolled back or forward while we trained: learn it again, on what is served now.
            self.base, self.serving, self.pending = before
            self.epochs.discard(task.id)
            self.rebase()
            return
        self.finish(pending.claim, figures, version)
        self.epochs.discard(task.id)
        self.lineage.prune(self.config.keep_versions)

    def validated(self, state: LearnerState, task: Task) -> tuple[LearnerState, Report]:
        """Measure a consolidated state; one that costs earlier tasks too much is learned by the head alone."""
        config = self.config.validation
        report = validate(self.learner, state, self.validation, config)
        if report.lost > config.tolerated_loss:
            log.warning("new slots cost earlier tasks too much, left out", task=task.id, lost=report.lost)
            state = self.learner.adopt(self.base.state, task)
            report = validate(self.learner, state, self.validation, config)
        return report.noted(state), report

    def look_up(self, pending: Pending, share: float, figures: dict[str, float]) -> None:
        """Between two training steps: report, take new tasks, notice that it is time to stop."""
        if time.monotonic() - self.looked_up < LOOK_UP_S and share < 1:
            return
        if self.stop.is_set():
            raise Stopping
        self.heartbeat.check()
        # Redis may be away for a while: training goes on, the next look-up reports.
        with contextlib.suppress(ExchangeUnavailable):
            self.queue.update(
                pending.claim.task.id,
                state=TaskState.CONSOLIDATING,
                progress=share,
                metrics=figures,
                claim=pending.claim,
            )
            version = self.base.version
            self.accept_waiting(block_ms=0)
            if self.base.version != version:
                log.info("served a new task while consolidating", version=self.base.version)
        self.looked_up = time.monotonic()

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
        claims = [pending.claim for pending in self.pending] + [c.claim for c in self.corrections]
        fast = [claim.task.id for claim in claims]
        manifest = self.lineage.publish(
            self.base, self.serving, fast, metrics, consolidated, self.heartbeat.token
        )
        self.base = Base(self.base.state, manifest.version)
        log.info("published", version=manifest.version, kind=manifest.kind, labels=len(manifest.labels))
        return manifest.version

    def refuse(self, claim: Claim, reason: str) -> None:
        """End a task that no retry will make learnable."""
        self.heartbeat.drop(claim)
        self.queue.fail(claim, reason)
        log.warning("task cannot be learned", task=claim.task.id, reason=reason)

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
