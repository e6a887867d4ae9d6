"""What can go wrong between a caller and a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hippotune.records import Task


def unnumbered(error: Exception) -> str:
    """What an error says, without the "[Errno 2]" that Python puts before it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


class HippoTuneError(Exception):
    """Anything a call to a server can end with besides an answer."""


class Unreachable(HippoTuneError):
    """No server answered, however often it was tried."""


class Unanswered(Unreachable):
    """The server took a request and did not answer in time; it may have done what it was asked for.

    key: the idempotency key that tells, of a task that was submitted; else None.
    """

    def __init__(self, message: str, key: str | None = None) -> None:
        self.key = key
        super().__init__(message)


class Refused(HippoTuneError):
    """The server answered with a problem document (RFC 9457).

    status: HTTP status.  problem: the document; what it was instead, when something in between answered.
    busy: the same request may succeed later.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], *, busy: bool = False) -> None:
        self.status, self.busy = status, busy
        self.problem = dict(problem)
        told = problem.get("detail") or problem.get("title") or "no reason given"
        super().__init__(f"{status}: {told}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets a worker process raise it: pickled as exceptions usually are, it could not be read, and its pool would
        wait for ever."""
        return partial(Refused, busy=self.busy), (self.status, self.problem)


class TaskFailed(HippoTuneError):
    """A task that was waited for will never be learned."""

    def __init__(self, task: Task) -> None:
        self.task = task
        super().__init__(f"task {task.id} {task.state}" + (f": {task.error}" if task.error else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """As for Refused."""
        return TaskFailed, (self.task,)


class TaskUnfinished(HippoTuneError):
    """A task was waited for as long as its caller would, and has not ended; it goes on."""

    def __init__(self, task: Task) -> None:
        self.task = task
        super().__init__(f"task {task.id} is still {task.state}; the time to wait for it is over")

    def __reduce__(self) -> tuple[Any, ...]:
        """As for Refused."""
        return TaskUnfinished, (self.task,)
