"""What a trainer knows and has served: the base state, and the fast state on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from exchange.errors import PointerMoved
from exchange.records import Claim
from trainer.claims import Claims
from trainer.feedback import Correction, Unfollowable, check_followable, correct
from trainer.learner import Learner
from trainer.lineage import Base, Lineage
from trainer.state import LearnerState

log = structlog.get_logger()


class Knowledge:
    """Owns both states, and replaces them together with the version that is served."""

    def __init__(self, learner: Learner, lineage: Lineage, claims: Claims, lease_token: int) -> None:
        """Raises what `Lineage.load` raises."""
        self.learner, self.lineage, self.claims, self.lease_token = learner, lineage, claims, lease_token
        self.base = lineage.load()
        self.serving = self.base.state

    @property
    def fast_tasks(self) -> tuple[str, ...]:
        """The tasks that only the head of the version built on knows."""
        return self.lineage.fast_tasks(self.base.version)

    def catch_up(self) -> None:
        """Build on what is served now, in case somebody has moved the pointer, and leave out what was dropped.

        A task that is withdrawn while it is learned is dropped before the order to forget it is delivered. A version
        published in between must not contain it: that version would not name the task among those it knows, and the
        order would find nothing to take out.
        """
        if self.lineage.current() != self.base.version:
            self.rebase()
        elif self.claims.dropped:
            self.serving = self.with_pending(self.base.state)
        self.claims.dropped = False

    def rebase(self) -> None:
        """Start again from the version that is served now."""
        self.base = self.lineage.load()
        for claim in self.claims.waiting:
            with self.claims.last_words(claim):
                self.finish_if_known(claim)
        self.serving = self.with_pending(self.base.state)
        log.info("building on another version", version=self.base.version)

    def finish_if_known(self, claim: Claim) -> bool:
        """Acknowledge what is in the base already, where it would count twice. Whether it was.

        It was published just before a crash, and then delivered again; perhaps while somebody had rolled back.
        """
        known = self.base.state.knows(claim.task.id)
        if known:
            self.claims.finish(claim, {}, self.base.version)
        return known

    def with_pending(self, state: LearnerState) -> LearnerState:
        """A base state plus the fast heads of everything still waiting to be consolidated, corrections last."""
        state = self.learner.learn_all_fast(state, [pending.task for pending in self.claims.pending])
        self.claims.corrections = self.followed(state, self.claims.corrections)
        return correct(self.learner, state, self.claims.corrections)

    def followed(self, state: LearnerState, corrections: Sequence[Correction]) -> list[Correction]:
        """Those whose features can be followed to a state; the others fail."""
        if not corrections:
            return []
        usable, here = [], self.learner.space(state.pools)  # a hash of all pools
        for correction in corrections:
            try:
                check_followable(state, correction, here)
            except Unfollowable as error:
                self.claims.fail(correction.claim, str(error))
            else:
                usable.append(correction)
        return usable

    def serve_fast(self, state: LearnerState) -> int:
        """Serve a fast state; when somebody moved the pointer meanwhile, on top of what they chose."""
        self.serving = state
        while True:
            try:
                return self.publish({}, consolidated=False)
            except PointerMoved:
                self.rebase()

    def serve_consolidated(self, state: LearnerState, metrics: dict[str, float]) -> int:
        """Make a state the base, and serve it with all that waits on top.

        Raises PointerMoved when somebody rolled back or forward since the base was loaded: rebase before going on.
        """
        self.base, self.serving = replace(self.base, state=state), self.with_pending(state)
        return self.publish(metrics, consolidated=True)

    def withdraw(self) -> None:
        """Serve what is consolidated and pending, and nothing else."""
        self.serving = self.with_pending(self.base.state)
        while True:
            try:
                self.publish({}, consolidated=not self.claims.waiting)
                return
            except PointerMoved:
                self.rebase()

    def publish(self, metrics: dict[str, float], *, consolidated: bool) -> int:
        """Publish the fast state, and build on that version from now on. Raises what `Lineage.publish` raises."""
        fast = [claim.task.id for claim in self.claims.waiting]
        manifest = self.lineage.publish(
            self.base, self.serving, fast, metrics, consolidated, self.lease_token
        )
        self.base = Base(self.base.state, manifest.version)
        log.info("published", version=manifest.version, kind=manifest.kind, labels=len(manifest.labels))
        return manifest.version
