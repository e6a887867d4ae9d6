"""How long a task is waited for, and how often it is looked at meanwhile."""

from __future__ import annotations

import time

from hippotune.errors import TaskFailed, TaskUnfinished
from hippotune.records import LOST, Task

POLL_S = 0.2


class Deadline:
    """The end of waiting: `timeout` seconds from now, None for never. Raises ValueError for one that is no time."""

    def __init__(self, timeout: float | None) -> None:
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout is {timeout}; it must be at least 0, or None to wait for ever")
        self._at = None if timeout is None else time.monotonic() + timeout

    def left_s(self) -> float | None:
        """Seconds until then, 0 once it has passed."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def pause(self, task: Task) -> float:
        """Seconds until to look again at a task that has not ended. Raises TaskUnfinished once the time is over."""
        left = self.left_s()
        if left == 0:
            raise TaskUnfinished(task)
        return POLL_S if left is None else min(POLL_S, left)


def learned(task: Task) -> Task:
    """The task as it is. Raises TaskFailed for one that never will be learned."""
    if task.state in LOST:
        raise TaskFailed(task)
    return task
