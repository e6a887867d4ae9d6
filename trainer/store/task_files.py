"""A folder with one file a task, and how it is kept small."""

from __future__ import annotations

from collections.abc import Mapping, Set
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from exchange.files import make_durable, make_folder, storing
from model.checkpoint import write_tensors


class TaskFiles:
    """What a trainer keeps of each task, under the task's id. For the one trainer that has the lease."""

    def __init__(self, root: Path) -> None:
        """Drops what a trainer that was killed left half written. Raises StoreUnavailable."""
        self.root = root
        with storing(root):
            make_folder(root)
            for partial in root.glob("*.part"):
                partial.unlink(missing_ok=True)

    def write(self, task: str, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
        """Make this a task's file: whole or not at all. Raises StoreUnavailable."""
        path = self._path(task)
        partial = path.with_suffix(".part")
        with storing(self.root):
            try:
                write_tensors(partial, tensors, facts)
                make_durable(partial)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)  # the disk may be full, and images in it are to be forgotten

    def discard(self, task: str) -> None:
        """Raises StoreUnavailable."""
        with storing(self.root):
            self._path(task).unlink(missing_ok=True)

    def keep_only(self, tasks: Set[str], written_before: float) -> int:
        """Drop what other tasks left behind; returns how many files. Raises StoreUnavailable.

        What was written since `written_before` stays, Unix seconds: it may be of a task that came since.
        """
        removed = 0
        with storing(self.root):
            for path in self.root.iterdir():
                with suppress(FileNotFoundError):  # somebody else was faster
                    if path.stem not in tasks and path.stat().st_mtime < written_before:
                        path.unlink()
                        removed += 1
        return removed

    def _path(self, task: str) -> Path:
        return self.root / f"{task}.safetensors"
