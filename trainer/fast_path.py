"""The fast path of a claimed task: loaded, some of it held out, and the rest served by the head alone.

Of a task of many images a part is served first, of each class some. So no task waits until all images of those before
it have passed the backbone: the rest of each is learned once no other waits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from exchange.blobs import BlobStore
from exchange.errors import BlobCorrupt, BlobMissing
from exchange.records import Claim, Sample, TaskChange, TaskState
from trainer.claims import Claims, Pending
from trainer.images import UnusableTask, digests_of, each_once, load_task
from trainer.knowledge import Knowledge
from trainer.process import TrainerConfig
from trainer.state import LearnerState
from trainer.task import Task
from trainer.validation import ValidationShelf, hold_out


class FastPath:
    """One claimed task at a time, which waits to be completed and consolidated from then on."""

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

    def accept(self, claim: Claim) -> None:
        """Load a task, learn it fast, in part if it has many images, and serve that. Raises what `load` raises."""
        self.claims.report(claim, TaskChange(TaskState.LEARNING))
        task = self.load(claim)
        if task is None:
            return
        knowledge = self.knowledge
        new = self.learner.unseen(knowledge.serving, task)
        if new is None or task.id in knowledge.fast_tasks:
            # Nothing in it is new; or the trainer before this one served it, and a version published now would lack
            # what else that one served.
            self.claims.add(Pending(claim, task))
            knowledge.hold(self.learner.learn_fast(knowledge.serving, task))
            self.claims.report(claim, TaskChange(TaskState.SERVED, version=knowledge.base.version))
            return
        part = self.learner.begun(knowledge.serving.pools, new)
        self.claims.add(Pending(claim, task, None if part is new else part))
        self.serve(claim, self.learner.learn_fast(knowledge.serving, part))

    def complete(self, pending: Pending, between: Callable[[], None]) -> None:
        """Learn the rest of a task that is served in part, and serve all of it.

        between: called between batches of images; may take in and serve other tasks, or take this one back.
        """
        knowledge = self.knowledge
        knowledge.catch_up()
        if pending in self.claims.pending and (new := knowledge.unseen(pending)):
            self.learner.described(knowledge.base.state.pools, new, between)
        if pending not in self.claims.pending:
            return
        self.claims.show_all(pending)
        knowledge.rebuild()
        self.serve(pending.claim, knowledge.serving)

    def serve(self, claim: Claim, state: LearnerState) -> None:
        """Serve a state that knows a task, if only in part, and say so."""
        version = self.knowledge.serve_fast(state)
        if claim in self.claims.waiting:  # somebody may have activated a version that knows it for good
            self.claims.report(claim, TaskChange(TaskState.SERVED, version=version))
        self.knowledge.lineage.prune(self.config.keep_versions)

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
