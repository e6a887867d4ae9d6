"""Training continues after a crash from the last epoch that lies here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from model.checkpoint import InvalidCheckpoint
from trainer.epochs import EpochState

log = structlog.get_logger()


class EpochShelf:
    """Where the newest finished epoch of each task in training lies."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def saver(self, task: str) -> Callable[[EpochState], None]:
        """A function that makes an epoch the one to resume from: whole or not at all."""

        def save(epoch: EpochState) -> None:
            temporary = self.root / f"{task}.part"
            epoch.save(temporary)
            temporary.replace(self._path(task))

        return save

    def load(self, task: str) -> EpochState | None:
        """The epoch to resume from, if there is a readable one."""
        path = self._path(task)
        try:
            return EpochState.load(path) if path.exists() else None
        except InvalidCheckpoint as error:
            log.warning("starting a task over", task=task, reason=str(error))
            return None

    def discard(self, task: str) -> None:
        self._path(task).unlink(missing_ok=True)

    def _path(self, task: str) -> Path:
        return self.root / f"{task}.safetensors"
