"""What tests of more than one room need."""

from collections.abc import Iterator

import pytest
from redis import Redis

from exchange.connection import connect
from exchange.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real server for the whole run."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_server: EmbeddedRedis) -> Iterator[Redis]:
    """A client of an empty server."""
    with connect(redis_server.url) as client:
        client.flushall()
        yield client
