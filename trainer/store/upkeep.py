"""What is kept, and for how long: the one policy that bounds the disk and Redis, carried out by the trainer.

* versions: the newest `keep_versions` to go back to (`Registry.prune`, after each that is published too), the one that
  is served, a canary, and the consolidated one each descends from;
* images of tasks: until the task is learned, forgotten or cancelled; those of dead letters for as long as they are
  among the newest `queue.dead_letters`; anything younger than an hour stays, its task may not be queued yet, and for a
  week what is older than a loss of Redis' data;
* held-out images: as long as a version on disk knows their task; epochs: until their task has ended;
* records of ended tasks: the newest `keep_tasks`; what happened to a task: `queue.events` entries, `queue.event_ttl_s`
  seconds; idempotency keys: `queue.idempotency_ttl_s` seconds. The last two Redis ends by itself.
"""

from __future__ import annotations

import time

import structlog

from exchange.errors import BlobUnreadable, StoreUnavailable, VersionUnreadable
from exchange.queue import TaskQueue
from exchange.registry import Registry
from exchange.upkeep import drop_idle_consumers, prune_tasks, sweep_blobs, unfinished_tasks
from trainer.config import TrainerConfig
from trainer.store.shelves import Shelves

log = structlog.get_logger()


class Upkeep:
    """Runs now and then, between two tasks."""

    def __init__(self, queue: TaskQueue, registry: Registry, shelves: Shelves, config: TrainerConfig) -> None:
        self.queue, self.registry, self.shelves, self.config = queue, registry, shelves, config
        self.next = time.monotonic()

    def run_when_due(self) -> None:
        """Raises ExchangeUnavailable. A store that cannot be read or written is left as it is until the next time."""
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.config.upkeep_s
        try:
            self.run()
        except (StoreUnavailable, BlobUnreadable, VersionUnreadable) as error:
            log.warning("could not tidy the store", reason=str(error))

    def run(self) -> None:
        """Drop what nobody needs any more.

        Raises ExchangeUnavailable, StoreUnavailable, BlobUnreadable and VersionUnreadable.
        """
        # Taken first: if this process is stopped on the way, another trainer may have learned more when it goes on.
        began = time.time()
        prune_tasks(self.queue, self.config.keep_tasks)
        drop_idle_consumers(self.queue)
        self.registry.prune(self.config.keep_versions)
        sweep_blobs(self.queue)
        unfinished = unfinished_tasks(self.queue)
        self.shelves.epochs.keep_only(unfinished, began)
        self.shelves.validation.keep_only(self.registry.known_tasks() | unfinished, began)
