"""What keeps Redis and the store from growing for ever. Run now and then, by any one process."""

import time
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from exchange.connection import reaching_redis
from exchange.errors import BlobCorrupt, BlobMissing, TaskNotFound
from exchange.fields import shorten
from exchange.queue import TaskQueue
from exchange.queue_lua import DROP
from exchange.records import TaskChange, samples_from_json
from exchange.tasks import GROUP
from exchange.work_lua import RETIRE_CONSUMER

SPARED_S = 7 * 86_400.0
"""How long images from before Redis lost its data stay: the queue that needs them may come back from a copy."""


def prune_tasks(queue: TaskQueue, keep: int) -> int:
    """Forgets the records of ended tasks beyond the newest `keep` tasks; returns how many."""
    with reaching_redis():
        old: Any = queue.redis.zrange(queue.keys.tasks, 0, -(keep + 1))
    return sum(queue.run(DROP, task_id.decode()) for task_id in old)


def sweep_blobs(queue: TaskQueue, older_than_s: float = 3600.0) -> int:
    """Removes the images that no unfinished task and no dead letter needs; returns how many.

    Learned images go this way: nothing trains on them again. Those stored within the last `older_than_s` seconds stay,
    since their task may not be submitted yet; for `SPARED_S`, those from before Redis lost its data; and all while
    Redis knows of no version, as it may have lost them just now. Raises `StoreUnavailable`, and `BlobUnreadable` while
    the disk does not tell what a task needs.
    """
    # Taken before the queue is looked at: this process may be stopped for hours while tasks come in.
    now = time.time()
    with reaching_redis(), queue.redis.pipeline(transaction=True) as pipe:
        # All at one moment: a task that is tried again moves from one stream to the other.
        pipe.xrange(queue.keys.queue)
        pipe.xrange(queue.keys.dead)
        pipe.exists(queue.keys.pointer)
        pipe.get(queue.keys.lost)
        waiting, dead, served, lost = pipe.execute()
    if not served:
        return 0
    listings = {fields.get(b"samples", b"").decode(errors="replace") for _, fields in waiting + dead}
    needed = {blob for listing in listings for blob in _blobs_of(queue, listing)}
    spared_before = float(lost) if lost and now < float(lost) + SPARED_S else 0.0
    return queue.blobs.sweep(needed, spared_before, now - older_than_s)


def unfinished_tasks(queue: TaskQueue) -> set[str]:
    """Ids of the tasks that wait or are being worked on."""
    with reaching_redis():
        entries: Any = queue.redis.xrange(queue.keys.queue)
    return {fields.get(b"task", b"").decode(errors="replace") for _, fields in entries}


def explain_waiting(queue: TaskQueue, reason: str) -> None:
    """Tells everybody whose task is unfinished why nothing happens; what is learned after all drops it again."""
    for task_id in unfinished_tasks(queue):
        with suppress(TaskNotFound):
            if queue.get(task_id).error != shorten(reason):
                queue.update(task_id, TaskChange(error=reason))


def drop_idle_consumers(queue: TaskQueue, idle_s: float = 86_400.0) -> int:
    """Forgets workers that hold nothing and have not asked for so long; returns how many."""
    with reaching_redis():
        try:
            consumers: Any = queue.redis.xinfo_consumers(queue.keys.queue, GROUP)
        except ResponseError:  # no stream, no group, no consumers
            return 0
    names = [c["name"].decode() for c in consumers if c["pending"] == 0 and c["idle"] > idle_s * 1000]
    return sum(queue.run(RETIRE_CONSUMER, "", consumer=name) for name in names)


def _blobs_of(queue: TaskQueue, listing: str) -> set[str]:
    """A list of samples and what it names; one that is damaged or gone protects only itself. Raises BlobUnreadable."""
    try:
        return {listing, *(sample.blob for sample in samples_from_json(queue.blobs.get(listing)))}
    except (BlobMissing, BlobCorrupt, ValueError):
        return {listing}
