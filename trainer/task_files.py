"""A folder with one file a task, and how it is kept small."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from exchange.files import make_folder, storing


class TaskFiles:
    """What a trainer keeps of each task, under the task's id."""

    def __init__(self, root: Path) -> None:
        """Raises StoreUnavailable."""
        self.root = root
        with storing(root):
            make_folder(root)

    def discard(self, task: str) -> None:
        """Raises StoreUnavailable."""
        with storing(self.root):
            self._path(task).unlink(missing_ok=True)

    def keep_only(self, tasks: Set[str]) -> int:
        """Drop what other tasks left behind; returns how many files. Raises StoreUnavailable."""
        with storing(self.root):
            others = [path for path in self.root.iterdir() if path.stem not in tasks]
            for path in others:
                path.unlink(missing_ok=True)
        return len(others)

    def _path(self, task: str) -> Path:
        return self.root / f"{task}.safetensors"
