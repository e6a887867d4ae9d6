import pytest
from redis import Redis

from exchange.blobs import BlobStore
from exchange.queue import QueueConfig, TaskQueue
from exchange.records import Sample
from exchange.registry import Registry
from exchange.tasks import GROUP


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def config():
    return QueueConfig(lease_s=60, capacity=4)


@pytest.fixture
def queue(redis: Redis, blobs: BlobStore, config: QueueConfig) -> TaskQueue:
    return TaskQueue(redis, blobs, config)


@pytest.fixture
def samples(blobs):
    """Three images of two classes, stored."""
    names = blobs.put_many([b"one", b"two", b"three"])
    return [Sample(name, label) for name, label in zip(names, ["cat", "dog", "cat"], strict=True)]


@pytest.fixture
def after_the_lease(redis, queue, config):
    """Lets every claim run out, by ageing it: to wait for that would call a slow machine a dead worker."""

    def age():
        past_ms = int(config.lease_s * 1000) + 1
        for claim in redis.xpending_range(queue.keys.queue, GROUP, "-", "+", 100):
            entry, consumer = claim["message_id"], claim["consumer"]
            redis.xclaim(queue.keys.queue, GROUP, consumer, 0, [entry], idle=past_ms, justid=True)

    return age


@pytest.fixture
def other(redis, blobs, config):
    """The same queue as another process sees it."""
    return TaskQueue(redis, blobs, config)


@pytest.fixture
def registry(redis, tmp_path):
    return Registry(redis, tmp_path / "versions")
