"""Corrections on their way from the queue into what is served: at once by the fast head, then for good."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from exchange.blobs import BlobStore
from exchange.errors import BlobCorrupt, BlobMissing, PointerMoved
from exchange.records import Claim, TaskChange, TaskState
from trainer.config import TrainerConfig
from trainer.duties.knowledge import Knowledge
from trainer.intake.claims import Claims
from trainer.intake.corrected_features import Correction, correct, learned, load_correction
from trainer.intake.images import UnusableTask


class Corrections:
    """Takes claimed corrections, many at a time: each version they bring costs more than they do."""

    def __init__(self, knowledge: Knowledge, claims: Claims, blobs: BlobStore, config: TrainerConfig) -> None:
        self.knowledge, self.claims, self.blobs = knowledge, claims, blobs
        self.learner, self.config = knowledge.learner, config
        self.fresh: list[Correction] = []

    def accept(self, claim: Claim) -> None:
        """Read a claimed correction, to be served with others that come along; or report why it cannot be used.

        Raises BlobUnreadable, which is the disk's fault and ends the term: everything held is given back.
        """
        try:
            width = self.learner.network.backbone.width
            self.fresh.append(load_correction(claim, self.blobs, width))
        except (UnusableTask, BlobMissing, BlobCorrupt) as error:
            self.claims.fail(claim, str(error))

    def serve(self) -> None:
        """Serve what was accepted since the last time by the fast head, in one version."""
        if not self.fresh:
            return
        knowledge = self.knowledge
        knowledge.catch_up()
        fresh, self.fresh = knowledge.followed(knowledge.base.state, self.fresh), []
        if not fresh:
            return
        self.claims.add_corrections(fresh)
        with self.working_on(fresh):
            knowledge.hold(correct(self.learner, knowledge.serving, knowledge.relabelled(fresh)))
            served = knowledge.fast_tasks
            again = all(correction.claim.task.id in served for correction in fresh)
            version = knowledge.base.version if again else knowledge.serve_fast(knowledge.serving)
        # Somebody may have activated another version meanwhile: corrections that cannot be followed to it have failed.
        held = {correction.claim.task.id for correction in self.claims.corrections}
        for correction in fresh:
            if correction.claim.task.id not in held:
                continue
            with self.claims.unless_withdrawn(correction.claim):
                self.claims.report(correction.claim, TaskChange(TaskState.SERVED, version=version))
        knowledge.lineage.prune(self.config.keep_versions)

    def keep(self) -> None:
        """Learn the corrections that wait for good; with the head alone, as there is no image to train slots on.

        Each is remembered for as long as its record can be asked for.
        """
        knowledge = self.knowledge
        kept = knowledge.relabelled(self.claims.corrections)
        if not kept:
            return
        try:
            with self.working_on(kept):
                state = learned(self.learner, knowledge.base.state, kept, self.config.keep_tasks)
                taken = {held.claim.task.id for held in kept}
                version = knowledge.serve_consolidated(state, {}, taken)
        except PointerMoved:
            knowledge.rebase()
            return
        for correction in kept:
            with self.claims.unless_withdrawn(correction.claim):
                self.claims.finish(correction.claim, {}, version)
        knowledge.lineage.prune(self.config.keep_versions)

    def working_on(self, corrections: Sequence[Correction]) -> AbstractContextManager[None]:
        """Inside, a crash counts against these together: they are computed in one."""
        return self.claims.working_on(*(correction.claim for correction in corrections))
