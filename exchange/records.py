"""The typed records of a task that cross a process border: what it brings, what is known about it, who has it.

JSON is the form on disk and on the wire. Reading is strict: a field that is missing or of another type raises
`ValueError`, fields nobody knows yet are ignored, so that an older reader survives a newer writer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from exchange.reading import reader, require_finite


class TaskState(StrEnum):
    """Where a task is on its way from the queue to a consolidated version."""

    QUEUED = "queued"
    LEARNING = "learning"
    SERVED = "served"
    CONSOLIDATING = "consolidating"
    CONSOLIDATED = "consolidated"
    FAILED = "failed"
    CANCELLED = "cancelled"
    FORGETTING = "forgetting"
    FORGOTTEN = "forgotten"

    @property
    def ended(self) -> bool:
        """True when no worker will touch the task again by itself."""
        return self in _ENDED

    @property
    def taken_back(self) -> bool:
        """True when somebody did not want the task any more."""
        return self in _TAKEN_BACK


_ENDED = frozenset({TaskState.CONSOLIDATED, TaskState.FAILED, TaskState.CANCELLED, TaskState.FORGOTTEN})
_TAKEN_BACK = frozenset({TaskState.CANCELLED, TaskState.FORGETTING, TaskState.FORGOTTEN})


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image of a task, or the features of one that was answered and corrected."""

    blob: str
    """SHA-256 (hex) of the original encoded image, or of the feature vector; its name in the blob store."""
    label: str
    space: str | None = None
    """The feature space that a feature vector was made in, see `Checkpoint.space`; None where the blob is an image."""


@dataclass(frozen=True, slots=True)
class LabelChange:
    """What an order does to one class: calls it by another label, or forgets it. Raises `ValueError` for its own."""

    label: str
    becomes: str | None
    """Its new label; another class that has it already is merged with this one. None: the class is forgotten."""

    def __post_init__(self) -> None:
        if self.becomes == self.label:
            raise ValueError(f"becomes is {self.becomes!r}: must be another label than it has")

    @property
    def labels(self) -> tuple[str, ...]:
        """All that it names."""
        return (self.label,) if self.becomes is None else (self.label, self.becomes)

    @property
    def name(self) -> str:
        """What its order is called."""
        return f"forget: {self.label}" if self.becomes is None else f"rename: {self.label} -> {self.becomes}"


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What is known about a task. Times are Unix seconds by the clock of the Redis server."""

    id: str
    name: str
    state: TaskState
    images: int
    labels: tuple[str, ...]
    """Sorted, each once."""
    progress: float
    """0 (nothing learned) to 1 (consolidated)."""
    metrics: Mapping[str, float]
    error: str | None
    created_at: float
    updated_at: float
    version: int | None
    """The newest version that knows this task."""
    served_at: float | None
    consolidated_at: float | None
    change: LabelChange | None = None
    """What it does to a class that is known, of an order, which brings no images; None of every other task."""


@dataclass(frozen=True, slots=True)
class TaskChange:
    """What is new about a task; None is what stays as it was. Raises `ValueError` for a figure out of range."""

    state: TaskState | None = None
    progress: float | None = None
    metrics: Mapping[str, float] | None = None
    """Added to those known."""
    version: int | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.progress is not None and not 0 <= self.progress <= 1:
            raise ValueError(f"progress is {self.progress}: must be from 0 to 1")
        require_finite(self.metrics or {})


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """The state of a task after one change."""

    id: str
    """Grows from event to event; pass it as `after` to read on."""
    task: TaskRecord


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission."""

    task: TaskRecord
    created: bool
    """False when the idempotency key had already made this task."""


@dataclass(frozen=True, slots=True)
class Made:
    """What an idempotency key has made."""

    task: TaskRecord
    digest: str
    """Of the request that made it; see `exchange.repeats`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One delivery of a task to one worker. Whatever the worker reports about the task, it reports with this."""

    task: TaskRecord
    samples: tuple[Sample, ...]
    entry_id: str
    consumer: str
    deliveries: int
    """How often this task has been handed out, this time included; tells its claims apart."""
    lease_token: int
    """Of the lease that it was claimed under, and holds with."""

    @property
    def corrects(self) -> bool:
        """True when its blobs are features of answers, not images."""
        return any(sample.space is not None for sample in self.samples)


def change_to_json(change: LabelChange) -> bytes:
    return orjson.dumps(change)


def change_from_json(data: bytes | str) -> LabelChange:
    return reader(LabelChange).validate_json(data)


def samples_to_json(samples: tuple[Sample, ...]) -> bytes:
    return orjson.dumps(samples)


def samples_from_json(data: bytes | str) -> tuple[Sample, ...]:
    return reader(tuple[Sample, ...]).validate_json(data)
