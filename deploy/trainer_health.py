"""Exits with 0 while the trainer on this host speaks to Redis: a trainer has no port of its own to ask.

A waiting trainer asks for the lease every second, a learning one renews it three times a lease; so one that was
silent for a whole lease is dead, stuck or cut off. Redis tells how long each of its clients has been silent.
"""

from __future__ import annotations

import os
import sys

from redis import Redis
from redis.exceptions import RedisError

from exchange.connection import CLIENT_NAME
from exchange.queue import QueueConfig

TIMEOUT_S = 4.0


def silent_s(redis: Redis) -> float:
    """Seconds since the trainer beside us last spoke; infinite when it is not connected."""
    own = redis.client_info()
    idle = [
        float(client["idle"])
        for client in redis.client_list()
        if client["name"] == CLIENT_NAME and host(client) == host(own)
    ]
    return min(idle, default=float("inf"))


def host(client: dict[str, str]) -> str:
    """The address a client calls from, without its port."""
    return client["addr"].rpartition(":")[0]


def main() -> None:
    lease_s = float(os.environ.get("HIPPOTUNE_QUEUE_LEASE_S", QueueConfig().lease_s))
    try:
        redis = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=TIMEOUT_S, protocol=2)
        silence = silent_s(redis)
    except RedisError as error:
        sys.exit(f"Redis cannot be reached: {error}")
    if silence > lease_s:
        sys.exit(f"the trainer has been silent for {silence:.0f} s, longer than its lease of {lease_s:.0f} s")


if __name__ == "__main__":
    main()
