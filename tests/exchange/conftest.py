import pytest
from redis import Redis

from exchange.blobs import BlobStore
from exchange.lease import Lease
from exchange.queue import QueueConfig
from exchange.records import Sample
from exchange.registry import Registry
from exchange.work import WorkQueue


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def config():
    return QueueConfig(capacity=4)


@pytest.fixture
def queue(redis: Redis, blobs: BlobStore, config: QueueConfig) -> WorkQueue:
    return WorkQueue(redis, blobs, config)


@pytest.fixture
def samples(blobs):
    """Three images of two classes, stored."""
    names = blobs.put_many([b"one", b"two", b"three"])
    return [Sample(name, label) for name, label in zip(names, ["cat", "dog", "cat"], strict=True)]


@pytest.fixture
def next_term(redis, queue):
    """Begins another trainer's term, as if the lease of the one before it had run out; returns its token."""

    def begin():
        redis.delete(queue.keys.lease)
        return Lease(redis).acquire()

    return begin


@pytest.fixture
def other(redis, blobs, config):
    """The same queue as another process sees it."""
    return WorkQueue(redis, blobs, config)


@pytest.fixture
def registry(redis, tmp_path):
    return Registry(redis, tmp_path / "versions")
