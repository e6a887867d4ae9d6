"""What may be asked about tasks: one, many, what happens to one, how many wait."""

import re
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from exchange.connection import reaching_redis
from exchange.errors import TaskNotFound
from exchange.fields import FIXED_FIELDS, decode_fields, task_from_fields
from exchange.records import Made, TaskEvent, TaskRecord
from exchange.redis_keys import Keys

GROUP = "trainers"
_AT_ONCE = 100
"""Events of a task in one answer of Redis."""
_EVENT_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")


class TaskReader:
    """The reading side of the queue. Every method raises `ExchangeUnavailable` without Redis."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis, self.keys = redis, keys

    def get(self, task_id: str) -> TaskRecord:
        """Raises `TaskNotFound`."""
        return task_from_fields(self.fields(task_id))

    def made_with(self, idempotency_key: str) -> Made | None:
        """The task that was submitted with this key.

        None for a key that is new, and for one whose task was taken back since, or has no record left.
        """
        with reaching_redis():
            found: Any = self.redis.hgetall(self.keys.idempotency(idempotency_key))
        made = decode_fields(found)
        try:
            task = self.get(made["task"]) if made else None
        except TaskNotFound:
            return None
        return Made(task, made["digest"]) if task and not task.state.taken_back else None

    def newest(self, limit: int = 100) -> list[TaskRecord]:
        """At most `limit` tasks, the one accepted last first."""
        with reaching_redis():
            ids: Any = self.redis.zrevrange(self.keys.tasks, 0, limit - 1)
            pipe = self.redis.pipeline(transaction=False)
            for task_id in ids:
                pipe.hgetall(self.keys.task(task_id.decode()))
            found = pipe.execute()
        return [task_from_fields(decode_fields(fields)) for fields in found if fields]

    def events(self, task_id: str, after: str = "0") -> list[TaskEvent]:
        """What happened to a task after the event `after`, oldest first; at most the next `_AT_ONCE`.

        Events are kept for a while only. Once they are gone, the task as it is stands for all of them, with an id by
        the time of its last change. Raises `TaskNotFound`, and `ValueError` when `after` is no event's id.
        """
        if not _EVENT_ID.fullmatch(after):
            raise ValueError(f"after is {after!r}: must be the id of an event, like 0 or 1700000000000-0")
        fields, stream = self.fields(task_id), self.keys.events(task_id)
        with reaching_redis():
            found: Any = self.redis.xread({stream: after}, count=_AT_ONCE)
            kept = bool(found) or bool(self.redis.exists(stream))
        if not kept:
            last = f"{int(float(fields['updated_at']) * 1000)}-0"
            return [TaskEvent(last, task_from_fields(fields))] if _place(after) < _place(last) else []
        fixed = {name: value for name, value in fields.items() if name in FIXED_FIELDS}
        entries = found[0][1] if found else []
        return [
            TaskEvent(event_id.decode(), task_from_fields(fixed | decode_fields(changed)))
            for event_id, changed in entries
        ]

    def recorded(self) -> int:
        """Tasks of which there is a record, ended or not."""
        with reaching_redis():
            return int(self.redis.zcard(self.keys.tasks))

    def depth(self) -> int:
        """Tasks that wait or are being learned."""
        with reaching_redis():
            return int(self.redis.xlen(self.keys.queue))

    def lag(self) -> int:
        """Tasks that no worker has been given yet."""
        with reaching_redis():
            try:
                given: Any = self.redis.xpending(self.keys.queue, GROUP)
            except ResponseError:  # no stream, no group: nothing was ever given
                return self.depth()
            return max(0, self.depth() - int(given["pending"]))

    def has_trainer(self) -> bool:
        """Whether a trainer holds the lease."""
        with reaching_redis():
            return bool(self.redis.exists(self.keys.lease))

    def fields(self, task_id: str) -> dict[str, str]:
        """The raw fields of a task. Raises `TaskNotFound`."""
        with reaching_redis():
            found = self.redis.hgetall(self.keys.task(task_id))
        if not found:
            raise TaskNotFound(f"no task {task_id[:100]!r}")
        return decode_fields(found)


def _place(event_id: str) -> tuple[int, int]:
    """Where an event stands among others: milliseconds, and its number within one."""
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number or 0)
