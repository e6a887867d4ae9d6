"""One trainer's term: what it does from taking the lease to giving it up.

Tasks are learned fast as they arrive and consolidated one after another. Of several that wait, each is served in part
before the rest of any is learned. A task that arrives while another is being consolidated does not wait: its fast
version is learned in between, at the next training step or the next batch of images. Only a consolidated task
is acknowledged; until then a crash hands it to the next trainer, which starts from the version being served and from
the last finished epoch. An order to forget a task is carried out as soon as it is taken from the queue, which waits
while as many tasks are pending as memory is meant for. An order to rename or forget a class waits for its turn: until
all tasks that were sent before it are consolidated, which would else bring the class back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping

from exchange.errors import ExchangeUnavailable
from exchange.records import Claim, TaskChange, TaskState
from exchange.registry import Registry
from model.network import RetrievalViT
from trainer.duties.consolidation import Consolidation
from trainer.duties.corrections import Corrections
from trainer.duties.fast_path import FastPath
from trainer.duties.knowledge import Knowledge
from trainer.duties.relabelling import Relabelling
from trainer.duties.withdrawal import Withdrawal
from trainer.heartbeat import Heartbeat
from trainer.intake.claims import Abandoned, Claims, Order, Pending, Stopping
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.store.lineage import Lineage
from trainer.store.shelves import Shelves
from trainer.store.upkeep import Upkeep
from trainer.validation.promotion import Promotion

LOOK_UP_S = 0.2
"""How often consolidation looks up for new tasks, a lost lease or a request to stop."""


class Term:
    """Decides what comes next: claims go to where they are learned, corrected or forgotten."""

    def __init__(
        self,
        network: RetrievalViT,
        claims: Claims,
        registry: Registry,
        shelves: Shelves,
        heartbeat: Heartbeat,
        stop: threading.Event,
    ) -> None:
        self.claims, self.heartbeat, self.stop = claims, heartbeat, stop
        queue, config = claims.queue, claims.config
        self.upkeep = Upkeep(queue, registry, shelves, config)
        self.learner = Learner(network, config.learner, self.pause)
        lineage = Lineage(registry, self.learner)
        self.knowledge = knowledge = Knowledge(self.learner, lineage, claims)
        self.promotion = promotion = Promotion(self.learner, shelves.validation, config.validation)
        self.fast_path = FastPath(knowledge, claims, queue.blobs, shelves.validation, config)
        self.corrections = Corrections(knowledge, claims, queue.blobs, config)
        self.consolidation = Consolidation(knowledge, claims, promotion, shelves.epochs, config, self.look_up)
        self.withdrawal = Withdrawal(knowledge, claims, queue, promotion, shelves)
        self.relabelling = Relabelling(knowledge, claims, promotion, config)
        self.looked_up = 0.0
        self.to_forget: list[Claim] = []

    def run(self) -> None:
        """Work until asked to stop. Raises ExchangeError, which ends the term."""
        while not self.stop.is_set():
            self.heartbeat.check()
            self.upkeep.run_when_due()
            busy = self.claims.waiting or self.claims.orders or not self.withdrawal.lost_withdrawn
            with contextlib.suppress(Stopping, Abandoned):
                self.accept_waiting(block_ms=0 if busy else 1000)
                if order := self.claims.due:
                    self.carry_out(order)
                elif self.claims.pending:
                    self.consolidation.consolidate(self.claims.pending[0])
                elif self.claims.corrections:
                    self.corrections.keep()
                else:
                    self.withdrawal.withdraw_lost()

    def pause(self) -> None:
        """Between two batches of images: notice that it is time to stop. Raises Stopping and LeaseLost."""
        if self.stop.is_set():
            raise Stopping
        self.heartbeat.check()

    def accept_waiting(self, block_ms: int) -> None:
        """Learn every waiting task with the fast head: first a part of each, then the rest of one after another."""
        self.accept_arrivals(block_ms)
        while not self.stop.is_set() and (unfinished := self.claims.unfinished):
            claim = unfinished.claim
            with self.claims.working_on(claim), self.claims.unless_withdrawn(claim):
                self.fast_path.complete(unfinished, self.look_for_arrivals)
            self.accept_arrivals(block_ms=0)
        self.fast_path.serve()

    def accept_arrivals(self, block_ms: int) -> None:
        """Serve a part at least of every waiting task, and all waiting corrections at once.

        Orders to forget are carried out as they come.
        """
        arrived = False
        while not self.stop.is_set() and (claim := self.claims.take(block_ms)):
            arrived, block_ms = True, 0
            with self.claims.working_on(claim), self.claims.unless_withdrawn(claim):
                self.accept(claim)
            if self.fast_path.due:
                self.fast_path.serve()
        if arrived or self.fast_path.due:
            self.serve()

    def serve(self) -> None:
        """Serve all that was accepted."""
        self.fast_path.serve()
        self.corrections.serve()

    def look_for_arrivals(self) -> None:
        """Between two batches of images, of a task served in part or of those measured: let no other wait for them."""
        if time.monotonic() - self.looked_up >= LOOK_UP_S:
            self.accept_arrivals(block_ms=0)
            self.looked_up = time.monotonic()

    def accept(self, claim: Claim) -> None:
        """Bring a claim to where it belongs; one that was learned before a crash, and delivered again, to its end."""
        if claim.task.state is TaskState.FORGETTING:
            self.forget(claim)
            return
        if claim.task.change is not None:
            self.claims.add_order(claim, claim.task.change)
            return
        self.knowledge.catch_up()
        if not self.knowledge.finish_if_known(claim):
            (self.corrections if claim.corrects else self.fast_path).accept(claim)

    def forget(self, claim: Claim) -> None:
        """Carry out an order to forget a task, and then, one after another, those that arrive meanwhile."""
        self.to_forget.append(claim)
        if len(self.to_forget) > 1:
            return
        try:
            for order in self.to_forget:
                with self.claims.working_on(order), self.claims.unless_withdrawn(order):
                    self.serve()
                    self.withdrawal.forget(order, self.look_for_arrivals)
        finally:
            self.to_forget.clear()

    def carry_out(self, order: Order) -> None:
        """Rename or forget a class, once the corrections sent before it are learned for good: they come first.

        Those sent since do not hold it up, as ever more may come; see `trainer.intake.corrected_labels`.
        """
        sent = order.claim.task.created_at
        if any(held.claim.task.created_at < sent for held in self.claims.corrections):
            self.corrections.keep()
        else:
            self.relabelling.carry_out(order, self.look_for_arrivals)

    def look_up(
        self,
        pending: Pending,
        built_on: LearnerState,
        share: float | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> None:
        """Between two steps of training or measuring: report, take new tasks, notice what makes going on useless.

        share, figures: how much of training is done, 0..1, and how it went so far.
        """
        if time.monotonic() - self.looked_up < LOOK_UP_S and share != 1:
            return
        self.pause()
        self.looked_up = time.monotonic()
        try:
            self.claims.report(
                pending.claim, TaskChange(TaskState.CONSOLIDATING, progress=share, metrics=figures)
            )
        except ExchangeUnavailable:
            # Redis may be away for a while: training goes on, and a later look-up reports. Only if it goes away in what
            # follows here, the term ends, and the next one goes on after the last finished epoch.
            return
        self.accept_waiting(block_ms=0)
        self.knowledge.catch_up()
        self.looked_up = time.monotonic()
        if self.knowledge.base.state is not built_on or pending not in self.claims.pending:
            raise Abandoned
