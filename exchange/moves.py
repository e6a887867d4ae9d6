"""Waits for the version pointer to move, on one connection that is kept: a new one each time would cost Redis more."""

import time

from redis.client import PubSub

from exchange.connection import reaching_redis
from exchange.registry import Registry

_POLL_S = 1.0
"""How late a moved pointer is noticed when its notification was lost."""


class Moves:
    """The moves of a registry's pointer, for one thread; to be closed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._told: PubSub | None = None
        """Subscribed to the channel of the pointer; None before the first wait and after a failure."""

    def wait(self, after: int | None, timeout_s: float) -> int | None:
        """The version pointed to, as soon as it is not `after`; None when `timeout_s` have passed.

        Raises `ExchangeUnavailable`; the next call subscribes anew.
        """
        deadline = time.monotonic() + timeout_s
        try:
            with reaching_redis():
                told = self._subscribed()
                while (current := self._registry.current()) is None or current == after:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return None
                    told.get_message(timeout=min(left, _POLL_S))
                return current
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the connection up."""
        if self._told is not None:
            self._told.close()
        self._told = None

    def _subscribed(self) -> PubSub:
        if self._told is None:
            # Remembered before it subscribes, so that one that cannot is closed too.
            self._told = self._registry.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            self._told.subscribe(self._registry.keys.pointer)
        return self._told
