"""The task queue, a Redis stream: where tasks and orders are handed in, taken back and tried again.

`exchange.work` is its other end, where a trainer takes them.
"""

import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis

from exchange import queue_lua as lua
from exchange.blobs import BlobStore
from exchange.connection import reaching_redis
from exchange.errors import NotRetryable, OrderGiven, QueueFull, TaskNotFound
from exchange.fields import change_to_fields, labels_to_field, read_fields, task_from_fields
from exchange.handling import handling
from exchange.records import (
    LabelChange,
    Sample,
    Submitted,
    TaskChange,
    TaskRecord,
    TaskState,
    change_to_json,
    samples_from_json,
    samples_to_json,
)
from exchange.redis_keys import DEFAULT_PREFIX, Keys
from exchange.repeats import mismatch, order_digest, request_digest
from exchange.tasks import TaskReader


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Settings of the queue, the same for everybody who uses it."""

    prefix: str = DEFAULT_PREFIX
    """Starts every key, so that several installations can share one Redis."""
    capacity: int = 1000
    """The most unfinished tasks: those that wait and those being learned."""
    lease_s: float = 15.0
    """A trainer that has not renewed its lease for this long counts as dead."""
    max_deaths: int = 3
    """A task at which a trainer died or stalled this often becomes a dead letter."""
    idempotency_ttl_s: int = 86_400
    """How long an idempotency key is remembered."""
    dead_letters: int = 1000
    """The most failed tasks that can be tried again; beyond that, the oldest lose their images."""
    events: int = 256
    """The most events kept of one task."""
    event_ttl_s: int = 86_400
    """How long the events of a task are kept after its last one."""


class TaskQueue(TaskReader):
    """Tasks from submission to their end. Safe for many threads and processes.

    Every method raises `ExchangeUnavailable` when Redis cannot be reached or refuses writes.
    """

    def __init__(self, redis: Redis, blobs: BlobStore, config: QueueConfig) -> None:
        super().__init__(redis, Keys(config.prefix))
        self.blobs, self.config = blobs, config

    def submit(
        self,
        name: str,
        samples: Sequence[Sample],
        idempotency_key: str | None = None,
        digest: str | None = None,
    ) -> Submitted:
        """Accepts a task whose blobs are stored. Once this has returned, it will be learned or reported as failed.

        An idempotency key that was used before gives the task that it made then, if the request is the same and the
        task was not taken back since.
        digest: tells requests apart; by default that of `exchange.repeats`.
        Raises `QueueFull`, `IdempotencyMismatch`, `BlobMissing`, `StoreUnavailable`.
        """
        self.blobs.require(sample.blob for sample in samples)
        listing = self.blobs.put(samples_to_json(tuple(samples)))
        labels = [sample.label for sample in samples]
        told = digest or request_digest(name, samples)
        return self._accept(name, labels, idempotency_key, told, images=len(samples), samples=listing)

    def order(self, change: LabelChange, idempotency_key: str | None = None) -> Submitted:
        """Accepts an order to rename or forget a class: a task without images, for a trainer to carry out in its turn.

        An idempotency key is as for `submit`. Raises `QueueFull` and `IdempotencyMismatch`.
        """
        kept = {"images": 0, "samples": "", "change": change_to_json(change).decode()}
        return self._accept(change.name, change.labels, idempotency_key, order_digest(change), **kept)

    def _accept(
        self, name: str, labels: Sequence[str], idempotency_key: str | None, digest: str, **kept: Any
    ) -> Submitted:
        """Queues a task, or finds the one that the key has made. kept: what else is kept of it."""
        task_id, config = secrets.token_hex(8), self.config
        once: dict[str, Any] = {}
        if idempotency_key is not None:
            once["extra_key"], once["digest"] = self.keys.idempotency(idempotency_key), digest
            once["idempotency_ttl_s"], once["task_prefix"] = config.idempotency_ttl_s, self.keys.task("")
        status, *rest = self.run(
            lua.SUBMIT, task_id, task=task_id, name=name, labels=labels_to_field(labels), capacity=config.capacity,
            **kept, **once,
        )  # fmt: skip
        if status == b"full":
            raise self._full()
        if status == b"mismatch":
            raise mismatch()
        return Submitted(task_from_fields(read_fields(rest[0])), created=status == b"created")

    def require_room(self, idempotency_key: str | None = None) -> None:
        """Raises `QueueFull` if `submit` would raise it now: never for a key that a task was made with."""
        if self.depth() >= self.config.capacity and not (idempotency_key and self.made_with(idempotency_key)):
            raise self._full()

    def handling(self, idempotency_key: str, ttl_s: float = 4.0) -> AbstractContextManager[None]:
        """See `exchange.handling`: one request at a time with this key, the others get `IdempotencyInFlight`."""
        return handling(self.redis, self.keys.handling(idempotency_key), ttl_s)

    def update(self, task_id: str, change: TaskChange) -> TaskRecord:
        """Notes what is new about a task, and tells whoever follows the events. Raises `TaskNotFound`."""
        status, *rest = self.run(lua.UPDATE, task_id, changes=change_to_fields(change))
        return self.answer(task_id, status, rest)

    def remove(self, task_id: str, *, again: bool = False) -> TaskRecord:
        """Cancels a task that waits or has failed, and orders any other one to be forgotten.

        The order is a delivery of its own: its claim has the state FORGETTING and no samples. A task that was cancelled
        or forgotten before stays as it is, unless `again` asks for the order all the same. Raises `TaskNotFound`, and
        `OrderGiven` for an order that no longer waits.
        """
        status, *rest = self.run(lua.REMOVE, task_id, task=task_id, again=again)
        if status == b"given":
            raise OrderGiven(
                f"task {task_id} is an order that is being carried out, or was: activate an older version to undo it, "
                "or rename a renamed class back"
            )
        return self.answer(task_id, status, rest)

    def retry(self, task_id: str) -> TaskRecord:
        """Queues a failed task again, as if new; no order, which whoever may teach need not be allowed to give.

        Raises `TaskNotFound`, `NotRetryable` and `QueueFull`; `BlobMissing` or `BlobCorrupt` if its images are no
        longer all there, and `BlobUnreadable` while the disk cannot give them.
        """
        fields = self.fields(task_id)
        if "change" in fields:
            raise NotRetryable(f"task {task_id} is an order to rename or forget a class; give it anew")
        if fields["state"] == TaskState.FAILED:
            samples = samples_from_json(self.blobs.get(fields["samples"]))
            self.blobs.require(sample.blob for sample in samples)
        status, *rest = self.run(lua.RETRY, task_id, capacity=self.config.capacity)
        if status == b"no":
            raise self._not_retryable(task_id)
        if status == b"full":
            raise self._full()
        return self.answer(task_id, status, rest)

    def adopt(
        self,
        task_id: str,
        since: float,
        version: int,
        labels: Sequence[str] = (),
        images: int = 0,
    ) -> TaskRecord:
        """The record of a task that a version knows and Redis does not: it was lost, or has dropped it as an old one.

        Made now if there is none, as that of a task without a name, learned for good.
        since: Unix seconds, no earlier than it was learned.  version: one that knows it.
        """
        named = labels_to_field(labels)
        status, *rest = self.run(
            lua.ADOPT,
            task_id,
            task=task_id,
            since=f"{since:.6f}",
            labels=named,
            images=images,
            version=str(version),
        )
        return self.answer(task_id, status, rest)

    def _not_retryable(self, task_id: str) -> NotRetryable:
        state = self.fields(task_id)["state"]
        if state == TaskState.FAILED:
            kept = f"the newest {self.config.dead_letters} failed tasks are kept to be tried again"
            return NotRetryable(f"task {task_id} failed too long ago: {kept}; submit it again")
        return NotRetryable(f"task {task_id} is {state}; it must have failed to be tried again")

    def run(self, script: str, task_id: str, *, extra_key: str = "", **arguments: object) -> Any:
        """Runs a script of `exchange.queue_lua` or `exchange.work_lua` on a task, with the arguments that it names.

        Texts are UTF-8.
        """
        names, config = self.keys, self.config
        keys = [names.queue, names.dead, names.tasks, names.lease_token, names.working]
        keys += [names.task(task_id), names.events(task_id), *([extra_key] if extra_key else [])]
        common = {"events": config.events, "event_ttl_s": config.event_ttl_s}
        with reaching_redis():
            whole = self.redis.register_script(lua.SHARED + script)
            return whole(keys, [orjson.dumps(common | arguments)])

    def answer(self, task_id: str, status: bytes, rest: Sequence[Any]) -> TaskRecord:
        """The task that a script of `exchange.queue_lua` answers with. Raises `TaskNotFound` where there was none."""
        if status == b"missing":
            raise TaskNotFound(f"no task {task_id[:100]!r}")
        return task_from_fields(read_fields(rest[0]))

    def _full(self) -> QueueFull:
        return QueueFull(f"the queue holds {self.config.capacity} unfinished tasks, as many as it may")
