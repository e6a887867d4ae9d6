"""What a trainer keeps on disk of single tasks, beside images and versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.store.epoch_shelf import EpochShelf
from trainer.store.validation_shelf import ValidationShelf


@dataclass(frozen=True, slots=True)
class Shelves:
    """epochs: of tasks in training, the newest finished one.  validation: of each task, the images held out."""

    epochs: EpochShelf
    validation: ValidationShelf

    @classmethod
    def open(cls, store: Path) -> Shelves:
        """Those of a store. Raises StoreUnavailable."""
        return cls(EpochShelf(store / "epochs"), ValidationShelf(store / "validation"))
