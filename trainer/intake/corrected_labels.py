"""Corrections under the labels of today: one means the class that had the name when it was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from exchange.errors import TaskNotFound
from exchange.queue import TaskQueue
from exchange.records import TaskRecord
from trainer.intake.corrected_features import Correction
from trainer.intake.images import UnusableTask
from trainer.learning.state import LearnerState


def orders_since(queue: TaskQueue, state: LearnerState, since: float) -> list[TaskRecord]:
    """The orders that a state knows and that were not done before `since`, Unix seconds; oldest first.

    One that is just being carried out is among them. Without those of which there is no record any more.
    """
    found = list[TaskRecord]()
    for order in reversed(state.changed):
        try:
            record = queue.get(order)
        except TaskNotFound:
            break  # nor is there one of any older order
        if done_before(record, since):
            break
        found.append(record)
    return found[::-1]


def done_before(order: TaskRecord, since: float) -> bool:
    return order.consolidated_at is not None and order.consolidated_at < since


def relabelled(correction: Correction, orders: Sequence[TaskRecord]) -> Correction:
    """A correction under the labels that orders have made of its own. Raises UnusableTask for a forgotten class."""
    labels = correction.labels
    for order in orders:
        change = order.change
        if (
            change is None
            or change.label not in labels
            or done_before(order, correction.claim.task.created_at)
        ):
            continue
        becomes = change.becomes
        if becomes is None:
            raise UnusableTask(f"the class {change.label!r} was forgotten since it was sent")
        labels = tuple(becomes if label == change.label else label for label in labels)
    return correction if labels == correction.labels else replace(correction, labels=labels)
