"""One trainer's term: what it does from taking the lease to giving it up.

Tasks are learned fast as they arrive and consolidated one after another. A task that arrives while another is being
consolidated does not wait: its fast version is learned in between, at the next training step or the next batch of
held-out images. Only a consolidated task is acknowledged; until then a crash hands it to the next trainer, which starts
from the version being served and from the last finished epoch. An order to forget a task is carried out as soon as it
is taken from the queue, which waits while as many tasks are pending as memory is meant for.
"""

from __future__ import annotations

import contextlib
import threading
import time

import torch

from exchange.errors import BlobCorrupt, BlobMissing, ExchangeUnavailable
from exchange.queue import TaskQueue
from exchange.records import Claim, TaskState
from trainer.claims import Abandoned, Claims, Pending, Stopping
from trainer.consolidation import Consolidation
from trainer.corrections import Corrections
from trainer.data import UnusableTask, digests_of, each_once, load_task
from trainer.feedback import Correction
from trainer.heartbeat import Heartbeat
from trainer.knowledge import Knowledge
from trainer.learner import Learner
from trainer.lineage import Lineage
from trainer.process import TrainerConfig
from trainer.promotion import Promotion
from trainer.state import LearnerState
from trainer.task import Task
from trainer.upkeep import Upkeep
from trainer.validation import hold_out
from trainer.withdrawal import Withdrawal

LOOK_UP_S = 0.2
"""How often consolidation looks up for new tasks, a lost lease or a request to stop."""


class Term:
    """Decides what comes next: claims go to where they are learned, corrected or forgotten."""

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
        self.queue, self.heartbeat, self.upkeep = queue, heartbeat, upkeep
        self.config, self.stop = config, stop
        self.learner = Learner(learner.network, learner.config, self.pause)
        self.claims = claims = Claims(queue, heartbeat, config.consumer)
        self.knowledge = knowledge = Knowledge(self.learner, lineage, claims, heartbeat.token)
        promotion = Promotion(self.learner, upkeep.validation, config.validation)
        self.corrections = Corrections(knowledge, claims, queue.blobs, config)
        self.consolidation = Consolidation(knowledge, claims, promotion, upkeep.epochs, config, self.look_up)
        self.withdrawal = Withdrawal(knowledge, claims, queue, promotion, upkeep.epochs, upkeep.validation)
        self.lost_withdrawn = False
        self.looked_up = 0.0

    def run(self) -> None:
        """Work until asked to stop. Raises ExchangeError, which ends the term."""
        while not self.stop.is_set():
            self.heartbeat.check()
            self.upkeep.run_when_due()
            busy = self.claims.waiting or not self.lost_withdrawn
            with contextlib.suppress(Stopping, Abandoned):
                self.accept_waiting(block_ms=0 if busy else 1000)
                if self.claims.pending:
                    self.consolidation.consolidate(self.claims.pending[0])
                elif self.claims.corrections:
                    self.corrections.keep()
                else:
                    self.withdraw_lost()

    def pause(self) -> None:
        """Between two batches of images: notice that it is time to stop. Raises Stopping and LeaseLost."""
        if self.stop.is_set():
            raise Stopping
        self.heartbeat.check()

    def accept_waiting(self, block_ms: int) -> None:
        """Learn every waiting task with the fast head, one after another, and all waiting corrections at once.

        Orders to forget are carried out as they come. Nothing more is taken while pending tasks fill the memory meant
        for them: after a crash all of them come back, and have to fit again.
        """
        fresh: list[Correction] = []
        while not self.stop.is_set() and self.has_room and (claim := self.claims.take(block_ms)):
            block_ms = 0
            with self.claims.last_words(claim):
                if claim.task.state is TaskState.FORGETTING:
                    self.corrections.serve(fresh)
                    fresh = []
                    self.withdrawal.forget(claim)
                    continue
                self.knowledge.catch_up()
                if self.knowledge.finish_if_known(claim):
                    continue
                if claim.corrects:
                    fresh += self.corrections.loaded(claim)
                else:
                    self.accept(claim)
        self.corrections.serve(fresh)

    @property
    def has_room(self) -> bool:
        """Whether another task may be held in memory; one always may."""
        return not self.claims.pending or self.claims.held_bytes < self.config.max_pending_mb << 20

    def accept(self, claim: Claim) -> None:
        """Load a task, learn it fast, serve it."""
        started = time.monotonic()
        self.claims.report(claim, TaskState.LEARNING)
        task = self.load(claim)
        if task is None:
            return
        knowledge = self.knowledge
        before, served = knowledge.serving, knowledge.fast_tasks
        self.claims.add(Pending(claim, task))
        if self.learner.unseen(before, task) is None:
            self.claims.report(claim, TaskState.SERVED, version=knowledge.base.version)
            return
        if claim.task.id in served:
            # The trainer before this one did so. A version published now would lack what else that one served.
            knowledge.hold(self.learner.learn_fast(before, task))
            self.claims.report(claim, TaskState.SERVED, version=knowledge.base.version)
            return

        def serve(state: LearnerState) -> None:
            version = knowledge.serve_fast(state)
            took = {"seconds_to_fast": time.monotonic() - started}
            if claim in self.claims.waiting:  # somebody may have activated a version that knows it for good
                self.claims.report(claim, TaskState.SERVED, metrics=took, version=version)

        built_on = knowledge.base.state
        state = self.learner.learn_fast(before, task, preview=serve)
        moved = knowledge.base.state is not built_on
        serve(knowledge.serving if moved else state)  # moved: with this task on top

    def load(self, claim: Claim) -> Task | None:
        """A task's images, each once, without those held out; None, after reporting why, when it cannot be learned.

        Raises BlobUnreadable, which is the disk's fault and ends the term: everything held is given back.
        """
        network, config = self.learner.network, self.config
        threads = torch.get_num_threads()
        samples = each_once(claim.samples)
        labels, digests = [sample.label for sample in samples], digests_of(samples)
        before = self.knowledge.serving
        learned, known = (
            set((~seen.new(labels, digests)).nonzero().squeeze(1).tolist())
            for seen in (before.seen, before.known)
        )
        kept, held = hold_out(labels, config.validation, learned, known - learned)
        kept.sort(key=known.__contains__)  # what is new in one piece, of which no copy is needed
        order = [samples[row] for row in kept + held]
        blobs, px = self.queue.blobs, network.backbone.px
        try:
            task = load_task(claim.task, order, blobs, px, config.max_pixels, threads)
        except (UnusableTask, BlobMissing, BlobCorrupt) as error:
            self.claims.fail(claim, str(error))
            return None
        task, held_out = task.split(len(kept))
        if held_out is None:
            self.upkeep.validation.discard(task.id)  # of an earlier delivery
        else:
            self.upkeep.validation.save(held_out)
        return task

    def look_up(
        self, pending: Pending, built_on: LearnerState, share: float | None, figures: dict[str, float]
    ) -> None:
        """Between two steps of training or measuring: report, take new tasks, notice what makes going on useless."""
        if time.monotonic() - self.looked_up < LOOK_UP_S and share != 1:
            return
        self.pause()
        self.looked_up = time.monotonic()
        try:
            self.claims.report(pending.claim, TaskState.CONSOLIDATING, progress=share, metrics=figures)
        except ExchangeUnavailable:
            return  # Redis may be away for a while: training goes on, the next look-up reports.
        self.accept_waiting(block_ms=0)
        self.knowledge.catch_up()
        self.looked_up = time.monotonic()
        if self.knowledge.base.state is not built_on or pending not in self.claims.pending:
            raise Abandoned

    def withdraw_lost(self) -> None:
        """Once in a term, when nothing waits: serve no longer what an earlier term served of tasks that then failed."""
        if not self.lost_withdrawn:
            self.withdrawal.withdraw_lost()
        self.lost_withdrawn = True
