"""The queue as a trainer sees it: tasks are claimed, reported on, and ended or given back."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from redis import Redis
from redis.exceptions import ResponseError

from exchange import work_lua as lua
from exchange.blobs import BlobStore
from exchange.connection import BLOCK_MS, reaching_redis
from exchange.errors import BlobCorrupt, BlobMissing, BlobUnreadable, LeaseLost, TaskWithdrawn
from exchange.fields import change_to_fields, decode_fields, read_fields, shorten, task_from_fields
from exchange.queue import QueueConfig, TaskQueue
from exchange.queue_lua import UPDATE
from exchange.records import Claim, TaskChange, TaskRecord, samples_from_json
from exchange.tasks import GROUP


class WorkQueue(TaskQueue):
    """Tasks for the one worker that holds the trainer's lease.

    Delivery is at least once: after a crash a task is handed out again. A worker claims under the token of its lease.
    The next holder is given at once whatever the one before it had and did not finish, and before anything else.
    Whoever reports on a delivery does so with its `Claim`, and gets `LeaseLost` once another worker holds the lease.
    """

    def __init__(self, redis: Redis, blobs: BlobStore, config: QueueConfig) -> None:
        super().__init__(redis, blobs, config)
        self._held: dict[str, int] = {}
        """The entries that are claimed here, and the token of the lease under which each was."""

    def claim(self, consumer: str, block_ms: int, lease_token: int) -> Claim | None:
        """The next task for this worker: first those that were delivered and not finished, then the oldest that waits.

        Waits up to `block_ms` milliseconds for one (0: not at all), then returns None. `consumer` must be unique to
        this process. lease_token: of its lease, which lets no other work here.
        Tasks that killed too many workers, or whose list of samples is damaged, are failed on the way, and what a
        stranger wrote into the stream is removed.
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

    def report(self, claim: Claim, change: TaskChange) -> TaskRecord:
        """As `update`, of a task that is claimed. Raises `LeaseLost` and `TaskWithdrawn`."""
        task_id = claim.task.id
        status, *rest = self.run(UPDATE, task_id, changes=change_to_fields(change), **_facts(claim))
        if status == b"lost":
            self._lose(claim)
        if status == b"withdrawn":
            raise TaskWithdrawn(f"task {task_id} is to be forgotten")
        return self.answer(task_id, status, rest)

    def _reclaim(self, consumer: str, lease_token: int) -> tuple[str, str] | None:
        """Takes over an entry that was delivered and is not held; its id and its task's, as `_read` does.

        Raises `LeaseLost`.
        """
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
        return (found[0].decode(), read_fields(found[1]).get("task", "")) if found else None

    def _read(self, consumer: str, block_ms: int) -> tuple[str, str] | None:
        """The oldest entry that nobody was given yet; its id and its task's: none, "", where a stranger wrote it."""
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
        return entry_id.decode(), decode_fields(fields).get("task", "")

    def _create_group(self) -> None:
        """Redis is new, or lost its data."""
        with suppress(ResponseError), reaching_redis():  # another worker may have been faster
            self.redis.xgroup_create(self.keys.queue, GROUP, id="0", mkstream=True)

    def _take(self, consumer: str, lease_token: int, entry_id: str, task_id: str) -> Claim | None:
        """Makes a delivered entry a claim, unless its task was cancelled, is poison or cannot be read.

        Raises `LeaseLost`.
        """
        config = self.config
        status, *rest = self.run(
            lua.TAKE, task_id, entry=entry_id, consumer=consumer, max_deaths=config.max_deaths,
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

    def _let_go(self, script: str, claim: Claim, **arguments: Any) -> None:
        """Ends a claim. It is held no more even if Redis is out of reach: then it is delivered again."""
        self._held.pop(claim.entry_id, None)
        [status] = self.run(script, claim.task.id, **_facts(claim), **arguments)
        if status == b"lost":
            self._lose(claim)

    def _lose(self, claim: Claim) -> NoReturn:
        self._held.pop(claim.entry_id, None)
        raise LeaseLost(f"task {claim.task.id} was given to another worker, or has ended")


def _facts(claim: Claim) -> dict[str, Any]:
    """What a script tells the holder of a claim by."""
    known = {"entry": claim.entry_id, "consumer": claim.consumer, "deliveries": claim.deliveries}
    return known | _fence(claim.lease_token)


def _fence(lease_token: int) -> dict[str, str]:
    """What a script tells the newest lease by; as text, since Lua's numbers would round it."""
    return {"lease_token": str(lease_token)}


def _superseded() -> LeaseLost:
    return LeaseLost("another trainer has taken over; it works on what waits")
