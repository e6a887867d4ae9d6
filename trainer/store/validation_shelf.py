"""Where the held-out images of each task lie."""

from __future__ import annotations

import torch
from torch import Tensor

from model.checkpoint import InvalidCheckpoint, read_tensors
from trainer.learning.seen import NO_DIGESTS, Seen
from trainer.learning.task import Task
from trainer.store.task_files import TaskFiles


class ValidationShelf(TaskFiles):
    """Held-out images on disk, a file a task."""

    def save(self, held_out: Task) -> None:
        """Raises StoreUnavailable."""
        tensors = {"pixels": held_out.pixels, "digests": held_out.digests}
        self.write(held_out.id, tensors, {"labels": held_out.labels})

    def leave_out(self, task: str, learned: Seen) -> None:
        """Keep none of a task's that were learned meanwhile. Raises StoreUnavailable."""
        if (held_out := self.load(task)) is not None:
            self._keep(held_out, learned.new(held_out.labels, held_out.digests))

    def forget(self, task: str, label: str, digests: Tensor) -> None:
        """Keep none of a task's of a class: by the digests [k] of its images, as the file may have them under an older
        name, or by its label where a file has no digests. Raises StoreUnavailable.
        """
        held_out = self.load(task)
        if held_out is None:
            return
        if len(held_out.digests):
            self._keep(held_out, ~torch.isin(held_out.digests, digests))
        else:
            self._keep(held_out, torch.tensor([own != label for own in held_out.labels]))

    def _keep(self, held_out: Task, rows: Tensor) -> None:
        """Keep the images `rows` [n] bool of those of a task."""
        if rows.any() and not rows.all():
            self.save(held_out.pick(rows.nonzero().squeeze(1).tolist()))
        elif not rows.any():
            self.discard(held_out.id)

    def holds(self, task: str) -> bool:
        """Whether there is a file of a task, readable or not."""
        return self._path(task).exists()

    def load(self, task: str) -> Task | None:
        """None when nothing was held out, or the file is damaged: what cannot be measured is not reported."""
        path = self._path(task)
        try:
            tensors, facts = read_tensors(path) if path.exists() else ({}, {})
            if not tensors:
                return None
            # Stores from before images were remembered have no digests.
            digests = tensors.get("digests", NO_DIGESTS)
            return Task(task, tensors["pixels"], tuple(facts["labels"]), digests)
        except (InvalidCheckpoint, OSError, KeyError, TypeError, ValueError):
            return None
