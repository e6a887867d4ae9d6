"""The fast path of a claimed task: loaded, some of it held out, and the rest served by the head alone.

Of a task of many images a part is served first, of each class some. So no task waits until all images of those before
it have passed the backbone: the rest of each is learned once no other waits. Several are served with one version where
they come faster than versions are made.
"""

from __future__ import annotations

import time
from functools import reduce

import torch

from exchange.blobs import BlobStore
from exchange.errors import BlobCorrupt, BlobMissing
from exchange.records import Claim, Sample, TaskChange, TaskState
from trainer.config import TrainerConfig
from trainer.duties.knowledge import Knowledge
from trainer.intake.claims import Claims, Pending
from trainer.intake.images import UnusableTask, digests_of, each_once, load_task
from trainer.learning.describer import Between
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.store.validation_shelf import ValidationShelf
from trainer.validation.held_out import hold_out


class FastPath:
    """Takes claimed tasks, which wait to be completed and consolidated from then on."""

    def __init__(
        self,
        knowledge: Knowledge,
        claims: Claims,
        blobs: BlobStore,
        validation: ValidationShelf,
        config: TrainerConfig,
    ) -> None:
        self.knowledge, self.claims, self.blobs = knowledge, claims, blobs
        self.learner, self.validation, self.config = knowledge.learner, validation, config
        self.fresh: list[Claim] = []
        self.since = self.took_s = 0.0

    def accept(self, claim: Claim) -> None:
        """Load a task and learn it fast, in part if it has many images, to be served with others that come along.

        Raises what `load` raises.
        """
        self.claims.report(claim, TaskChange(TaskState.LEARNING))
        task = self.load(claim)
        if task is None:
            return
        knowledge = self.knowledge
        new = self.learner.unseen(reduce(LearnerState.having_seen, self.unserved, knowledge.serving), task)
        if new is None or task.id in knowledge.fast_tasks:
            # Nothing in it is new; or the trainer before this one served it, and a version published now would lack
            # what else that one served.
            self.serve()
            self.claims.add(Pending(claim, task))
            knowledge.hold(self.learner.learn_fast(knowledge.serving, task))
            self.claims.report(claim, TaskChange(TaskState.SERVED, version=knowledge.base.version))
            return
        part = self.learner.begun(knowledge.serving.pools, new)
        self.claims.add(Pending(claim, task, None if part is new else part))
        self.note(claim)

    def complete(self, pending: Pending, between: Between) -> None:
        """Learn the rest of a task that is served in part, for all of it to be served.

        between: called between batches of images; may take in and serve other tasks, or take this one back.
        """
        knowledge = self.knowledge
        knowledge.catch_up()
        if pending in self.claims.pending and (new := knowledge.unseen(pending)):
            self.learner.described(knowledge.base.state.pools, new, between)
        if pending not in self.claims.pending:
            return
        self.claims.show_all(pending)
        self.note(pending.claim)

    def note(self, claim: Claim) -> None:
        """Have a task served, as far as it is shown, with the next version."""
        if not self.fresh:
            self.since = time.monotonic()
        self.fresh.append(claim)

    @property
    def unserved(self) -> list[Task]:
        """What is shown of the tasks that are to be served with the next version."""
        return [pending.shown for pending in self.claims.pending if pending.claim in self.fresh]

    @property
    def due(self) -> bool:
        """Whether the first of these has waited for others as long as it takes to serve any: the last version did."""
        return time.monotonic() - self.since >= self.took_s

    def serve(self) -> None:
        """Serve what was learned since the last time, in one version, and say so: each costs more than a task does."""
        fresh, knowledge = [claim for claim in self.fresh if claim in self.claims.waiting], self.knowledge
        if fresh:
            began = time.monotonic()
            with self.claims.working_on(*fresh):
                version = knowledge.serve_fast(self.learned())
            for claim in fresh:
                # Somebody may have activated a version that knows it for good.
                if claim in self.claims.waiting:
                    with self.claims.unless_withdrawn(claim):
                        self.claims.report(claim, TaskChange(TaskState.SERVED, version=version))
            knowledge.lineage.prune(self.config.keep_versions)
            self.took_s = time.monotonic() - began
        self.fresh = []

    def learned(self) -> LearnerState:
        """What is to be served next."""
        knowledge = self.knowledge
        knowledge.catch_up()
        if any(claim.task.id in knowledge.on_top for claim in self.fresh):  # in part until now
            knowledge.rebuild()
            return knowledge.serving
        return self.learner.learn_all_fast(knowledge.serving, self.unserved)

    def load(self, claim: Claim) -> Task | None:
        """A task's images, each once, without those held out; None, after reporting why, when it cannot be learned.

        Raises BlobUnreadable and StoreUnavailable, which are the disk's fault and end the term: everything held is
        given back.
        """
        samples, kept = self.divided(claim)
        px, most, threads = self.learner.network.backbone.px, self.config.max_pixels, torch.get_num_threads()
        try:
            task = load_task(claim.task, samples, self.blobs, px, most, threads)
        except (UnusableTask, BlobMissing, BlobCorrupt) as error:
            self.claims.fail(claim, str(error))
            return None
        task, held_out = task.split(kept)
        if held_out is None:
            self.validation.discard(task.id)  # of an earlier delivery
        else:
            self.validation.save(held_out)
        return task

    def divided(self, claim: Claim) -> tuple[list[Sample], int]:
        """A task's samples, each once, those to be held out last; and how many come before them."""
        samples = each_once(claim.samples)
        labels, digests = [sample.label for sample in samples], digests_of(samples)
        before = self.knowledge.serving
        for pending in self.claims.pending:
            before = before.having_seen(pending.task)  # more than is served where that is a part
        learned, known = (
            set((~seen.new(labels, digests)).nonzero().squeeze(1).tolist())
            for seen in (before.seen, before.known_of(labels))
        )
        kept, held = hold_out(labels, digests, self.config.validation, learned, known - learned)
        kept.sort(key=known.__contains__)  # what is new in one piece, of which no copy is needed
        return [samples[row] for row in kept + held], len(kept)
