"""Where the newest finished epoch of each task in training lies, so that a crash costs one epoch at most."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from exchange.errors import StoreUnavailable
from model.checkpoint import InvalidCheckpoint, read_tensors
from trainer.learning.epochs import EpochState
from trainer.store.task_files import TaskFiles

log = structlog.get_logger()


class EpochShelf(TaskFiles):
    """A file a task. Each says on what basis it was trained, and is of use on that basis alone."""

    def saver(self, task: str, basis: str) -> Callable[[EpochState], None]:
        """A function that makes an epoch the one to resume from: whole or not at all.

        Where the disk takes no file, training goes on without: only a crash would need it.
        """

        def save(epoch: EpochState) -> None:
            try:
                self.write(task, epoch.tensors, {"epoch": epoch.epoch, "basis": basis})
            except StoreUnavailable as error:
                log.warning("an epoch could not be kept", task=task, epoch=epoch.epoch, reason=str(error))

        return save

    def load(self, task: str, basis: str) -> EpochState | None:
        """The epoch to resume from, if there is a readable one that was trained on the same basis."""
        path = self._path(task)
        if not path.exists():
            return None
        try:
            tensors, facts = read_tensors(path)
            if facts["basis"] == basis:
                log.info("resuming a task", task=task, epoch=facts["epoch"])
                return EpochState(int(facts["epoch"]), tensors)
            reason = "it was begun on another version, backbone or configuration"
        except (InvalidCheckpoint, OSError, KeyError, TypeError, ValueError) as error:
            reason = str(error)
        log.warning("starting a task over", task=task, reason=reason)
        return None
