"""The one way to reach Redis: with time limits, a few retries, and one error when it cannot be reached."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis, exceptions
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from exchange.errors import ExchangeUnavailable

_REFUSED = (exceptions.OutOfMemoryError, exceptions.ReadOnlyError)
_REFUSAL = re.compile(r"\b(OOM|READONLY|MISCONF|NOREPLICAS) ")
"""Out of a script these come as plain errors, on Redis 6.2 in the midst of the text."""
_PASSING = re.compile(r"\b(UNBLOCKED|BUSY) ")
"""It became a replica while we waited in it, or is busy with somebody's script."""

CLIENT_NAME = "hippotune"
"""What Redis lists our connections as."""
BLOCK_MS = 500
"""Longest single wait inside Redis: far below the socket's time limit, and how late a stop is noticed."""


def connect(url: str, *, patient: bool = True) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://`, safe for many threads.

    Connects at its first command and again after each loss. Raises `ValueError` for another scheme.
    patient: whether to try again, and to wait longer than a second for an answer. What only looks, or asks again by
    itself, should not: a Redis that hangs would hold it up, and whoever waits for it, for a quarter of a minute.
    """
    return Redis.from_url(
        url,
        socket_timeout=5.0 if patient else 1.0,
        socket_connect_timeout=2.0 if patient else 1.0,
        health_check_interval=15,
        retry=Retry(ExponentialWithJitterBackoff(cap=1.0, base=0.05), retries=2 if patient else 0),
        retry_on_error=[exceptions.BusyLoadingError],
        protocol=2,
        client_name=CLIENT_NAME,
    )


@contextmanager
def reaching_redis() -> Iterator[None]:
    """Turns what Redis cannot do right now into `ExchangeUnavailable`; also a decorator.

    Mistakes of ours (a wrong command, a wrong type) stay what they are.
    """
    try:
        yield
    except exceptions.TimeoutError as error:
        raise ExchangeUnavailable(
            f"Redis cannot be reached: {error}", "Redis does not answer in time"
        ) from error
    except exceptions.ConnectionError as error:
        raise ExchangeUnavailable(f"Redis cannot be reached: {error}", "Redis cannot be reached") from error
    except exceptions.ResponseError as error:
        # A replica whose master is down is among those without a cluster.
        if isinstance(error, exceptions.ClusterDownError) or _PASSING.search(str(error)):
            raise ExchangeUnavailable(f"Redis cannot answer now: {error}") from error
        if isinstance(error, _REFUSED) or _REFUSAL.search(str(error)):
            raise ExchangeUnavailable(f"Redis refuses writes: {error}") from error
        raise
