"""Keeps claimed tasks claimed while they are learned."""

from __future__ import annotations

import threading
from types import TracebackType

import structlog

from exchange.errors import ExchangeError
from exchange.queue import TaskQueue
from exchange.records import Claim

log = structlog.get_logger()


class Heartbeat:
    """A thread that renews the lease of every claim it was given, three times a lease."""

    def __init__(self, queue: TaskQueue) -> None:
        self.queue = queue
        self.claims: dict[str, Claim] = {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.beat, name="heartbeat", daemon=True)

    def add(self, claim: Claim) -> None:
        self.claims[claim.entry_id] = claim

    def drop(self, claim: Claim) -> None:
        self.claims.pop(claim.entry_id, None)

    def beat(self) -> None:
        while not self.stopped.wait(self.queue.config.lease_s / 3):
            for claim in list(self.claims.values()):
                try:
                    self.queue.heartbeat(claim)
                except ExchangeError as error:
                    log.warning("could not renew a lease", task=claim.task.id, error=str(error))

    def __enter__(self) -> Heartbeat:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self.thread.join()
