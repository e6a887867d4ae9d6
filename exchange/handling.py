"""One request at a time for an idempotency key, from its first byte to its answer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis import Redis
from redis.exceptions import LockError
from redis.lock import Lock

from exchange.connection import reaching_redis
from exchange.errors import ExchangeUnavailable, IdempotencyInFlight

RENEWALS = 3
"""How often a key is renewed within its time to live, so that one late or lost renewal does not free it."""


@contextmanager
def handling(redis: Redis, name: str, ttl_s: float) -> Iterator[None]:
    """Inside the block, everybody else who asks for this name gets `IdempotencyInFlight`.

    Should this process die in it, the name is free again after `ttl_s` seconds: choose fewer than clients go on trying.
    Raises `ExchangeUnavailable`.
    """
    lock = redis.lock(name, timeout=ttl_s, blocking=False, thread_local=False)
    with reaching_redis():
        if not lock.acquire():
            raise IdempotencyInFlight("a request with the same idempotency key is being handled")
    done = threading.Event()
    renewal = threading.Thread(target=_renew, args=(lock, ttl_s / RENEWALS, done), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        done.set()
        renewal.join()  # it must not find the lock half released
        with suppress(ExchangeUnavailable, LockError), reaching_redis():
            lock.release()


def _renew(lock: Lock, every_s: float, done: threading.Event) -> None:
    """Keep a lock until told otherwise: a large body may take its time to arrive."""
    while not done.wait(every_s):
        with suppress(ExchangeUnavailable, LockError), reaching_redis():
            lock.reacquire()
