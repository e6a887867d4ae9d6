"""Carries out orders to rename or forget a class, each in its turn and once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from exchange.errors import PointerMoved
from exchange.records import TaskChange, TaskState
from trainer.config import TrainerConfig
from trainer.duties.knowledge import Knowledge
from trainer.intake.claims import Claims, Order
from trainer.learning.describer import Between
from trainer.learning.state import LearnerState
from trainer.validation.promotion import Promotion

log = structlog.get_logger()


class Relabelling:
    """Serves a version that has a class by another name, or not any more, and nothing else changed."""

    def __init__(
        self, knowledge: Knowledge, claims: Claims, promotion: Promotion, config: TrainerConfig
    ) -> None:
        self.knowledge, self.claims, self.promotion, self.config = knowledge, claims, promotion, config

    def carry_out(self, order: Order, between: Between) -> None:
        """Have an order carried out, or fail where no class to rename has the label any more. Once done, again does
        nothing; nor does an order to forget what is gone, which is what was asked for.

        It waits on, to be tried again, where somebody activated another version meanwhile.
        between: called between batches of images that are measured; may take in and serve other tasks.
        """
        claim, change, knowledge = order.claim, order.change, self.knowledge
        with self.claims.working_on(claim), self.claims.unless_withdrawn(claim):
            self.claims.report(claim, TaskChange(TaskState.LEARNING))
            knowledge.catch_up()
            figures: Mapping[str, float] | None = {}
            if not knowledge.base.state.knows(claim.task.id):
                if change.label in knowledge.base.state.labels:
                    figures = self.serve(order, between)
                elif change.becomes is not None:
                    self.claims.fail(claim, f"no class is called {change.label!r} any more")
                    return
            if figures is None:
                return
            knowledge.lineage.end_canary_with(change.label)
            self.claims.finish(claim, figures, knowledge.base.version)
            log.info("class changed", label=change.label, becomes=change.becomes)
        knowledge.lineage.prune(self.config.keep_versions)

    def serve(self, order: Order, between: Between) -> dict[str, float] | None:
        """Serve what is known with a class changed, and what waits on top.

        Returns what was measured of it over all tasks; None where something else is served by now.
        """
        knowledge, state = self.knowledge, self.knowledge.base.state
        if order.change.becomes is None:
            self.drop_held_out(state, order.change.label)
        left, report = self.promotion.change(state, order.change, between)
        left = replace(left, changed=(*left.changed, order.claim.task.id)[-self.config.keep_tasks :])
        knowledge.foresee(left, (), between)
        if knowledge.base.state is not state:
            return None
        try:
            knowledge.serve_consolidated(left, report.metrics)
        except PointerMoved:
            knowledge.rebase()
            return None
        return {name: value for name, value in report.metrics.items() if not name.startswith("accuracy.")}

    def drop_held_out(self, state: LearnerState, label: str) -> None:
        """Leave none of a class' held-out images on the disk. Raises StoreUnavailable."""
        for task, held in state.held_out.items():
            if label in held.images:
                self.promotion.shelf.forget(task, label, held.images[label])
