"""The task queue: a Redis stream that gives tasks to the one worker that holds the trainer's lease.

Delivery is at least once: after a crash a task is handed out again. A worker claims under the token of its lease. The
next holder is given at once whatever the one before it had and did not finish, and before anything else. Whoever
reports on a delivery does so with its `Claim`, and gets `LeaseLost` once another worker holds the lease.
"""

import secrets
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import orjson
from redis import Redis
from redis.exceptions import ResponseError

from exchange import queue_lua as lua
from exchange.blobs import BlobStore
from exchange.connection import BLOCK_MS, reaching_redis
from exchange.errors import (
    BlobCorrupt,
    BlobMissing,
    BlobUnreadable,
    LeaseLost,
    NotRetryable,
    OrderGiven,
    QueueFull,
    TaskNotFound,
    TaskWithdrawn,
)
from exchange.fields import (
    change_to_fields,
    decode_fields,
    labels_to_field,
    read_fields,
    shorten,
    task_from_fields,
)
from exchange.handling import handling
from exchange.records import (
    Claim,
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
from exchange.tasks import GROUP, TaskReader


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Settings of the queue, the same for everybody who uses it."""

    prefix: str = DEFAULT_PREFIX
    """Starts every key, so that several installations can share one Redis."""
    capacity: int = 1000
    """The most unfinished tasks: those that wait and those being learned."""
    lease_s: float = 15.0
    """A trainer that has not renewed its lease for this long counts as dead."""
    max_deliveries: int = 3
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
        self._held: dict[str, int | None] = {}
        """The entries that are claimed here, and the token of the lease under which each was."""

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
        told = digest or request_digest(name, listing)
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

    def claim(self, consumer: str, block_ms: int, lease_token: int | None = None) -> Claim | None:
        """The next task for this worker: first those that were delivered and not finished, then the oldest that waits.

        Waits up to `block_ms` milliseconds for one (0: not at all), then returns None. `consumer` must be unique to
        this process. lease_token: of its lease, which lets no other work here; None for a worker that is the only one.
        Tasks that killed too many workers, or whose list of samples is damaged, are failed on the way.
        Raises `LeaseLost` when that token is not the newest one, and `BlobUnreadable` while the disk cannot give such a
        list; nothing is claimed then.
        """
        deadline = time.monotonic() + block_ms / 1000
        while True:
            left_ms = int((deadline - time.monotonic()) * 1000)
            found = self._reclaim(consumer, lease_token) or self._read(consumer, min(left_ms, BLOCK_MS))
            if found and (claim := self._take(consumer, lease_token, *found)):
                return claim
            if not found and left_ms <= 0:
                return None

    def work_on(self, claims: Sequence[Claim], lease_token: int) -> None:
        """Notes what is worked on from now on, in place of what was.

        Should the holder of the lease die or stall meanwhile, that counts against these tasks, and against no others.
        """
        tasks = [claim.task.id for claim in claims]
        self.run(lua.WORK_ON, "", tasks=tasks, **_fence(lease_token))

    def finish(self, claim: Claim) -> None:
        """Acknowledges a task for good. When that fails it is delivered again. Raises `LeaseLost`."""
        self._let_go(lua.FINISH, claim)

    def fail(self, claim: Claim, reason: str) -> None:
        """Ends a task as failed and keeps it among the dead letters. Raises `LeaseLost`."""
        told = shorten(reason) or "no reason given"
        self._let_go(lua.FAIL, claim, reason=told, dead_letters=self.config.dead_letters)

    def release(self, claim: Claim) -> None:
        """Gives a task back; whoever asks next gets it."""
        self._let_go(lua.RELEASE, claim)

    def update(self, task_id: str, change: TaskChange, claim: Claim | None = None) -> TaskRecord:
        """Notes what is new about a task, and tells whoever follows the events.

        With `claim`, only while it holds. Raises `TaskNotFound`, `LeaseLost`, `TaskWithdrawn`.
        """
        changes = change_to_fields(change)
        status, *rest = self.run(lua.UPDATE, task_id, changes=changes, **(_facts(claim) if claim else {}))
        if status == b"lost" and claim:
            self._lose(claim)
        if status == b"withdrawn":
            raise TaskWithdrawn(f"task {task_id} is to be forgotten")
        return self._answer(task_id, status, rest)

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
        return self._answer(task_id, status, rest)

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
            raise NotRetryable(f"task {task_id} is not among the dead letters")
        if status == b"full":
            raise self._full()
        return self._answer(task_id, status, rest)

    def run(self, script: str, task_id: str, *, extra_key: str = "", **arguments: object) -> Any:
        """Runs a script of `exchange.queue_lua` on a task, with what it names as its arguments; texts are UTF-8."""
        names, config = self.keys, self.config
        keys = [names.queue, names.dead, names.tasks, names.lease_token, names.working]
        keys += [names.task(task_id), names.events(task_id), *([extra_key] if extra_key else [])]
        common = {"events": config.events, "event_ttl_s": config.event_ttl_s}
        with reaching_redis():
            whole = self.redis.register_script(lua.SHARED + script)
            return whole(keys, [orjson.dumps(common | arguments)])

    def _reclaim(self, consumer: str, lease_token: int | None) -> tuple[str, str] | None:
        """Takes over an entry that was delivered and is not held; its id and its task's. Raises `LeaseLost`."""
        held = [entry for entry, token in self._held.items() if token == lease_token]
        status, *found = self.run(
            lua.RECLAIM,
            "",
            consumer=consumer,
            held=held,
            task_prefix=self.keys.task(""),
            **_fence(lease_token),
        )
        if status == b"lost":
            raise _superseded()
        return (found[0].decode(), read_fields(found[1])["task"]) if found else None

    def _read(self, consumer: str, block_ms: int) -> tuple[str, str] | None:
        """The oldest entry that nobody was given yet; its id and its task's."""
        block = block_ms if block_ms > 0 else None
        try:
            with reaching_redis():
                found: Any = self.redis.xreadgroup(
                    GROUP, consumer, {self.keys.queue: ">"}, count=1, block=block
                )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._create_group()
            return None
        if not found:
            return None
        entry_id, fields = found[0][1][0]
        return entry_id.decode(), decode_fields(fields)["task"]

    def _create_group(self) -> None:
        """Redis is new, or lost its data."""
        with suppress(ResponseError), reaching_redis():  # another worker may have been faster
            self.redis.xgroup_create(self.keys.queue, GROUP, id="0", mkstream=True)

    def _take(self, consumer: str, lease_token: int | None, entry_id: str, task_id: str) -> Claim | None:
        """Makes a delivered entry a claim, unless its task was cancelled, is poison or cannot be read.

        Raises `LeaseLost`.
        """
        config = self.config
        status, *rest = self.run(
            lua.TAKE, task_id, entry=entry_id, consumer=consumer, max_deliveries=config.max_deliveries,
            dead_letters=config.dead_letters, **_fence(lease_token),
        )  # fmt: skip
        if status == b"lost":
            raise _superseded()
        if status != b"taken":
            return None
        deliveries, listing, fields = rest
        claim = Claim(task_from_fields(read_fields(fields)), (), entry_id, consumer, deliveries, lease_token)
        try:
            samples = samples_from_json(self.blobs.get(listing.decode())) if listing else ()
        except BlobUnreadable:
            self.release(claim)  # the disk's fault, not the task's
            raise
        except (BlobMissing, BlobCorrupt, ValueError) as error:
            self.fail(claim, f"its list of samples cannot be read: {error}")
            return None
        claim = replace(claim, samples=samples)
        self._held[entry_id] = lease_token
        return claim

    def _owned(self, script: str, claim: Claim, **arguments: Any) -> None:
        """Runs a script that only the holder of a claim may run."""
        [status] = self.run(script, claim.task.id, **_facts(claim), **arguments)
        if status == b"lost":
            self._lose(claim)

    def _let_go(self, script: str, claim: Claim, **arguments: Any) -> None:
        """Ends a claim. It is held no more even if Redis is out of reach: then it is delivered again."""
        self._held.pop(claim.entry_id, None)
        self._owned(script, claim, **arguments)

    def _lose(self, claim: Claim) -> NoReturn:
        self._held.pop(claim.entry_id, None)
        raise LeaseLost(f"task {claim.task.id} was given to another worker, or has ended")

    def _answer(self, task_id: str, status: bytes, rest: Sequence[Any]) -> TaskRecord:
        if status == b"missing":
            raise TaskNotFound(f"no task {task_id[:100]!r}")
        return task_from_fields(read_fields(rest[0]))

    def _full(self) -> QueueFull:
        return QueueFull(f"the queue holds {self.config.capacity} unfinished tasks, as many as it may")


def _facts(claim: Claim) -> dict[str, Any]:
    """What a script tells the holder of a claim by."""
    known = {"entry": claim.entry_id, "consumer": claim.consumer, "deliveries": claim.deliveries}
    return known | _fence(claim.lease_token)


def _fence(lease_token: int | None) -> dict[str, str]:
    """What a script tells the newest lease by; as text, since Lua's numbers would round it."""
    return {} if lease_token is None else {"lease_token": str(lease_token)}


def _superseded() -> LeaseLost:
    return LeaseLost("another trainer has taken over; it works on what waits")
