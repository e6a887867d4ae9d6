"""The pointer followed over one connection, whatever becomes of it."""

import threading
import time
from contextlib import closing

import pytest

from exchange.connection import connect
from exchange.embedded import EmbeddedRedis
from exchange.errors import ExchangeUnavailable
from exchange.moves import Moves
from exchange.registry import Registry
from tests.exchange.publishing import publish


@pytest.fixture
def moves(registry):
    with closing(Moves(registry)) as followed:
        yield followed


@pytest.fixture
def told_alone(monkeypatch):
    """Whoever waits hears of a move from Redis, or not before the test has failed."""
    monkeypatch.setattr("exchange.moves._POLL_S", 60)


def later(call, *arguments):
    timer = threading.Timer(0.1, call, arguments)
    timer.start()
    return timer


@pytest.mark.usefixtures("told_alone")
def test_who_waits_hears_of_each_move_before_looking_again(registry, moves):
    publish(registry)
    started = time.monotonic()
    for version in (1, 2):
        timer = later(publish, registry, version)
        assert moves.wait(after=version, timeout_s=60) == version + 1
        timer.join()
    assert time.monotonic() - started < 30


def test_waiting_ends_and_what_moved_before_counts(registry, moves):
    publish(registry)
    assert moves.wait(after=1, timeout_s=0.05) is None
    assert moves.wait(after=None, timeout_s=0) == 1


def test_a_lost_notification_is_made_up_for(registry, redis, moves):
    publish(registry)
    timer = later(redis.set, registry.keys.pointer, 2)
    assert moves.wait(after=1, timeout_s=60) == 2
    timer.join()


def test_waiting_again_opens_no_connection(registry, redis, moves):
    def opened():
        return redis.info("stats")["total_connections_received"]

    publish(registry)
    moves.wait(after=1, timeout_s=0.01)
    before = opened()
    for _ in range(5):
        assert moves.wait(after=1, timeout_s=0.01) is None
    assert opened() == before


@pytest.mark.usefixtures("told_alone")
def test_after_an_outage_moves_are_told_again(tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as server, connect(server.url, patient=False) as redis:
        registry = Registry(redis, tmp_path / "versions")
        publish(registry)
        with closing(Moves(registry)) as moves:
            assert moves.wait(after=1, timeout_s=0.01) is None
            server.stop()
            with pytest.raises(ExchangeUnavailable):
                moves.wait(after=1, timeout_s=0.01)
            server.start()
            started = time.monotonic()
            timer = later(publish, registry, 1)
            assert moves.wait(after=1, timeout_s=60) == 2
            assert time.monotonic() - started < 30
            timer.join()


@pytest.mark.usefixtures("told_alone")
def test_redis_may_come_back_between_two_waits(tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as server, connect(server.url) as redis:
        registry = Registry(redis, tmp_path / "versions")
        publish(registry)
        with closing(Moves(registry)) as moves:
            assert moves.wait(after=1, timeout_s=0.01) is None
            server.stop()
            server.start()
            timer = later(publish, registry, 1)
            assert moves.wait(after=1, timeout_s=60) == 2
            timer.join()
