"""Tasks as a worker takes them."""

from exchange.records import Claim
from exchange.work import WorkQueue


def take(queue: WorkQueue, consumer: str = "w1", block_ms: int = 0) -> Claim | None:
    """Claims under the newest token of the lease, whoever was given it."""
    key = queue.keys.lease_token
    queue.redis.set(key, 1, nx=True)
    return queue.claim(consumer, block_ms, int(queue.redis.get(key)))
