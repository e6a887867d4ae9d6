"""Keeps what a trainer holds: its lease, and its claims, while it is busy learning."""

from __future__ import annotations

import threading
from types import TracebackType

import structlog

from exchange.errors import ExchangeUnavailable, LeaseLost
from exchange.lease import Lease
from exchange.queue import TaskQueue
from exchange.records import Claim

log = structlog.get_logger()


class Heartbeat:
    """A thread that renews the trainer's lease and every claim it was given, three times a lease.

    While Redis is out of reach nobody else can take over either, so it only keeps trying.
    """

    def __init__(self, queue: TaskQueue, lease: Lease, token: int) -> None:
        self.queue, self.lease, self.token = queue, lease, token
        self.lost = threading.Event()
        self._claims: dict[str, Claim] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def add(self, claim: Claim) -> None:
        self._claims[claim.entry_id] = claim

    def drop(self, claim: Claim) -> None:
        self._claims.pop(claim.entry_id, None)

    @property
    def claims(self) -> list[Claim]:
        """Everything held."""
        return list(self._claims.values())

    def check(self) -> None:
        """Raise LeaseLost once another trainer has taken over, or may at any time."""
        if self.lost.is_set():
            raise LeaseLost("another trainer has taken over, or may: the lease is no longer renewed")

    def _beat(self) -> None:
        reachable = True
        while not self._stopped.wait(min(self.lease.ttl_s, self.queue.config.lease_s) / 3):
            try:
                self.lease.renew(self.token)
                for claim in self.claims:
                    self.queue.heartbeat(claim)
                reachable = True
            except LeaseLost:
                self.lost.set()
                return
            except ExchangeUnavailable as error:
                if reachable:
                    log.warning("could not renew the lease, trying on", reason=str(error))
                reachable = False
            except Exception:  # unrenewed, the lease runs out while the trainer goes on learning
                log.exception("cannot renew the lease")
                self.lost.set()
                return

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
