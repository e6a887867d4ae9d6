"""Gives the tasks that a version knows their records back after Redis was lost, and a store alone was left."""

from __future__ import annotations

import structlog

from exchange.errors import TaskNotFound
from exchange.queue import TaskQueue
from exchange.registry import Registry
from trainer.learning.state import LearnerState
from trainer.store.lineage import Base

log = structlog.get_logger()


def restore_records(queue: TaskQueue, registry: Registry, base: Base, keep: int) -> None:
    """Make records of the newest `keep` tasks learned for good, unless the newest of them has one.

    That one comes last, so that whoever is killed on the way begins again. Names are lost, and so are metrics.
    Where as many records are kept as may be, its own was dropped for newer ones, be they all of corrections or orders.
    Raises ExchangeUnavailable and VersionError.
    """
    tasks = base.state.tasks[-keep:]
    if base.version is None or not tasks or has_record(queue, tasks[-1]) or queue.recorded() >= keep:
        return
    since = registry.shelf.manifest(base.version).created_at
    for place, task in enumerate(tasks):
        # Some microseconds apart, so that they are listed in the order they were learned in.
        labels, images = base.state.taught[task], images_of(base.state, task)
        queue.adopt(task, since + place / 1e5, base.version, labels, images)
    log.info("records of tasks made anew", tasks=len(tasks), version=base.version)


def has_record(queue: TaskQueue, task: str) -> bool:
    """Whether Redis knows a task. Raises ExchangeUnavailable."""
    try:
        queue.get(task)
    except TaskNotFound:
        return False
    return True


def images_of(state: LearnerState, task: str) -> int:
    """How many images are known under a task's labels, with those held out of it."""
    learned = sum(len(state.seen.images.get(label, ())) for label in state.taught[task])
    return learned + len(state.held_out.get(task, ()))
