"""What a trainer knows and has served: the base state, and the fast state on top of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import structlog

from exchange.errors import PointerMoved
from exchange.records import Claim
from trainer.intake.claims import Claims, Pending
from trainer.intake.corrected_features import Correction, correct, followable
from trainer.intake.corrected_labels import orders_since, relabelled
from trainer.intake.images import UnusableTask
from trainer.learning.describer import Between
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.store.lineage import Base, Lineage

log = structlog.get_logger()


class Knowledge:
    """Owns both states, and replaces them together with the version that is served.

    base: what was learned for good, and the version built on.
    serving: the base with what waits on top.  on_top: ids of what waited when that state was made.
    """

    def __init__(self, learner: Learner, lineage: Lineage, claims: Claims) -> None:
        """Raises what `Lineage.load` raises."""
        self.learner, self.lineage, self.claims = learner, lineage, claims
        self.base = lineage.load()
        self.serving, self.on_top = self.base.state, list[str]()

    @property
    def fast_tasks(self) -> tuple[str, ...]:
        """The tasks that only the head of the version built on knows."""
        return self.lineage.fast_tasks(self.base.version)

    def catch_up(self) -> None:
        """Build on what is served now, in case somebody has moved the pointer, and leave out what waits no more.

        A task that is withdrawn while it is learned is given up before the order to forget it is delivered. A version
        published in between must not contain it: that version would not name the task among those it knows, and the
        order would find nothing to take out.
        """
        if self.lineage.current() != self.base.version:
            self.rebase()
        elif not set(self.on_top).issubset(claim.task.id for claim in self.claims.waiting):
            self.rebuild()

    def rebase(self) -> None:
        """Start again from the version that is served now."""
        self.base = self.lineage.load()
        for claim in self.claims.waiting:
            with self.claims.unless_withdrawn(claim):
                self.finish_if_known(claim)
        self.rebuild()
        log.info("building on another version", version=self.base.version)

    def finish_if_known(self, claim: Claim) -> bool:
        """Acknowledge what is in the base already, where it would count twice. Whether it was.

        It was published just before a crash, and then delivered again; perhaps while somebody had rolled back.
        """
        known = self.base.state.knows(claim.task.id)
        if known:
            self.claims.finish(claim, {}, self.base.version)
        return known

    def rebuild(self, taken: Collection[str] = ()) -> None:
        """Hold the base plus the fast heads of everything still waiting to be consolidated, corrections last.

        taken: ids of those that the base knows already.
        """
        corrections = [held for held in self.claims.corrections if held.claim.task.id not in taken]
        state = self.learner.learn_all_fast(self.base.state, self.shown(taken))
        corrections = self.relabelled(self.followed(state, corrections))
        self.hold(correct(self.learner, state, corrections), taken)

    def shown(self, taken: Collection[str] = ()) -> list[Task]:
        """What is served of the tasks that wait, less those `taken`, oldest first."""
        return [pending.shown for pending in self.claims.pending if pending.task.id not in taken]

    def foresee(self, state: LearnerState, taken: Collection[str], between: Between) -> None:
        """Take the features of all that waits as `rebuild` would once a state is the base, so that it takes none.

        Other work may be done in between as long as the state is not the base yet.
        taken: as for `rebuild`.  between: called before each batch of images; what arrives in it is described, too.
        """
        if state.pools is self.base.state.pools:
            return
        done: set[Task] = set()
        while left := [
            part for part in self.learner.unseen_parts(state, self.shown(taken)) if part not in done
        ]:
            for part in left:
                self.learner.described(state.pools, part, between)
            done.update(left)

    def unseen(self, pending: Pending) -> Task | None:
        """What of a task that waits neither the base nor those before it know; see `Learner.unseen`."""
        state, waiting = self.base.state, self.claims.pending
        for earlier in waiting[: waiting.index(pending)]:
            state = state.having_seen(earlier.shown)
        return self.learner.unseen(state, pending.task)

    def hold(self, state: LearnerState, taken: Collection[str] = ()) -> None:
        """Have a state with everything that waits, less what was `taken`, ready to be served."""
        self.serving = state
        self.on_top = [claim.task.id for claim in self.claims.waiting if claim.task.id not in taken]

    def followed(self, state: LearnerState, corrections: Sequence[Correction]) -> list[Correction]:
        """Those whose features can be followed to a state; the others fail."""
        if not corrections:
            return []
        here = self.learner.space(state.pools)  # a hash of all pools
        return self.usable(corrections, lambda correction: followable(state, correction, here))

    def relabelled(self, corrections: Sequence[Correction]) -> list[Correction]:
        """These under the labels that the base has for their classes; those of classes that it has forgotten fail."""
        if not corrections:
            return []
        since = min(correction.claim.task.created_at for correction in corrections)
        orders = orders_since(self.claims.queue, self.base.state, since)
        return self.usable(corrections, lambda correction: relabelled(correction, orders))

    def usable(
        self, corrections: Sequence[Correction], made: Callable[[Correction], Correction]
    ) -> list[Correction]:
        """What is made of corrections; those of which UnusableTask is raised fail."""
        usable = []
        for correction in corrections:
            try:
                usable.append(made(correction))
            except UnusableTask as error:
                self.claims.fail(correction.claim, str(error))
        return usable

    def serve_fast(self, state: LearnerState) -> int:
        """Serve a fast state; when somebody moved the pointer meanwhile, on top of what they chose."""
        self.hold(state)
        while True:
            try:
                return self.publish({}, consolidated=False)
            except PointerMoved:
                self.rebase()

    def serve_consolidated(
        self, state: LearnerState, metrics: dict[str, float], taken: Collection[str] = ()
    ) -> int:
        """Make a state the base, and serve it with all that waits on top.

        taken: ids of what waits and has become part of the base; once served, it is the caller's to acknowledge.
        Raises PointerMoved when somebody rolled back or forward since the base was loaded: rebase before going on.
        """
        self.base = replace(self.base, state=state)
        self.rebuild(taken)
        return self.publish(metrics, consolidated=True)

    def withdraw(self) -> None:
        """Serve what is consolidated and pending, and nothing else."""
        self.rebuild()
        while True:
            try:
                self.publish({}, consolidated=not self.on_top)
                return
            except PointerMoved:
                self.rebase()

    def publish(self, metrics: dict[str, float], *, consolidated: bool) -> int:
        """Publish the fast state, and build on that version from now on. Raises what `Lineage.publish` raises."""
        labels = {claim.task.id: claim.task.labels for claim in self.claims.waiting}
        fast = {task: labels.get(task, ()) for task in self.on_top}
        manifest = self.lineage.publish(
            self.base, self.serving, fast, metrics, consolidated, self.claims.lease_token
        )
        saved = manifest.version if consolidated else self.base.consolidated
        self.base = Base(self.base.state, manifest.version, saved)
        log.info("published", version=manifest.version, kind=manifest.kind, labels=len(manifest.labels))
        return manifest.version
