"""Takes out of what is served the tasks that do not belong there: those to be forgotten, and those that failed."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from exchange.errors import PointerMoved, TaskNotFound
from exchange.queue import TaskQueue
from exchange.records import Claim, TaskChange, TaskState
from trainer.duties.knowledge import Knowledge
from trainer.intake.claims import Claims
from trainer.learning.describer import Between
from trainer.learning.forget import kept_labels
from trainer.store.shelves import Shelves
from trainer.validation.promotion import Promotion

log = structlog.get_logger()

SHOWN = 5
"""Labels named of those that stay."""


def remainder(labels: Sequence[str]) -> str | None:
    """What a forgotten task leaves behind, in words; None for nothing."""
    if not labels:
        return None
    shown = ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
    return (
        f"its images of {shown} still count, since other tasks taught these classes too and sums do not tell whose "
        "images they were; an older version is without them (`hippotune activate`), and so are classes that are "
        "forgotten and taught again"
    )


class Withdrawal:
    """Leaves nothing of a task behind: in the versions served, among the claims, on the shelves."""

    def __init__(
        self,
        knowledge: Knowledge,
        claims: Claims,
        queue: TaskQueue,
        promotion: Promotion,
        shelves: Shelves,
    ) -> None:
        self.knowledge, self.claims, self.queue = knowledge, claims, queue
        self.promotion, self.shelves = promotion, shelves
        self.lost_withdrawn = False

    def forget(self, claim: Claim, between: Between) -> None:
        """Serve a version that does not know a task, then say so. Once done, doing it again does nothing.

        A correction of a label that was known before is in the sums of its class, and stays: the task says so.
        between: called between batches of images that are measured; may take in and serve other tasks.
        """
        task, knowledge = claim.task.id, self.knowledge
        for held in self.claims.waiting:
            if held.task.id == task:
                self.claims.acknowledge(held)
        knowledge.catch_up()
        self.shelves.epochs.discard(task)
        self.shelves.validation.discard(task)
        kept: tuple[str, ...] = ()
        while task in knowledge.base.state.tasks:
            kept = self.take_out(task, between)
        if task in knowledge.base.state.corrected:
            self.claims.fail(claim, "a correction of a known label cannot be taken out of its class again")
            return
        if task in knowledge.fast_tasks:
            knowledge.withdraw()
        knowledge.lineage.end_canary_of(task)
        self.claims.report(claim, TaskChange(TaskState.FORGOTTEN, error=remainder(kept)))
        self.claims.acknowledge(claim)
        log.info("forgotten", task=task, version=knowledge.base.version)

    def take_out(self, task: str, between: Between) -> tuple[str, ...]:
        """Serve what is known without a task that was learned for good, unless somebody activates another version
        meanwhile.

        Returns the labels of it that stay.  between: as for `forget`.
        """
        knowledge, state = self.knowledge, self.knowledge.base.state
        left, report = self.promotion.forget(state, task, between)
        knowledge.foresee(left, (), between)
        if knowledge.base.state is not state:
            return ()
        try:
            knowledge.serve_consolidated(left, report.metrics)
        except PointerMoved:
            knowledge.rebase()
            return ()
        return kept_labels(state, task)

    def withdraw_lost(self) -> None:
        """Once, while nothing else waits: serve no longer what an earlier term served of tasks that then failed."""
        if not self.lost_withdrawn and any(map(self.is_lost, self.knowledge.fast_tasks)):
            self.knowledge.withdraw()
        self.lost_withdrawn = True

    def is_lost(self, task: str) -> bool:
        """Whether a task ended without being learned."""
        try:
            return self.queue.get(task).state in (TaskState.FAILED, TaskState.CANCELLED)
        except TaskNotFound:
            return False
