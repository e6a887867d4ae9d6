"""Keeps a trainer's lease while it is busy learning."""

from __future__ import annotations

import threading
from types import TracebackType

import structlog

from exchange.errors import ExchangeUnavailable, LeaseLost
from exchange.lease import Lease

log = structlog.get_logger()


class Heartbeat:
    """A thread that renews the trainer's lease three times in its length.

    While Redis is out of reach it only keeps trying: whoever has taken over meanwhile has fenced this trainer out.
    """

    def __init__(self, lease: Lease, token: int) -> None:
        self.lease, self.token = lease, token
        self.lost = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def check(self) -> None:
        """Raise LeaseLost once another trainer has taken over, or may at any time."""
        if self.lost.is_set():
            raise LeaseLost("another trainer has taken over, or may: the lease is no longer renewed")

    def _beat(self) -> None:
        reachable = True
        while not self._stopped.wait(self.lease.ttl_s / 3):
            try:
                self.lease.renew(self.token)
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
