"""Two processes' worth of relays on a real Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from redis import Redis

from exchange.errors import PeerSilent
from exchange.relay import Relay


@pytest.fixture
def answering(redis: Redis) -> Iterator[Relay]:
    """Somebody named "b" answers every question with itself, backwards."""
    relay, stop = Relay(redis), threading.Event()

    def serve() -> None:
        while not stop.is_set():
            relay.answer("b", lambda question: question[::-1].encode())

    thread = threading.Thread(target=serve)
    thread.start()
    while not redis.exists(relay.keys.presence("b")):
        time.sleep(0.01)
    yield Relay(redis)
    stop.set()
    thread.join()


def test_whoever_is_named_answers(answering: Relay) -> None:
    assert [answering.ask("b", question, patience_s=30) for question in ("abc", "x y")] == [b"cba", b"y x"]


def test_a_name_that_nobody_bears_leaves_nothing_behind(redis: Redis) -> None:
    assert Relay(redis).ask("made up", "abc", patience_s=600) is None
    assert redis.keys("*") == []


def test_one_that_has_just_died(redis: Redis) -> None:
    relay = Relay(redis)
    relay.answer("gone", lambda question: question.encode())
    with pytest.raises(PeerSilent, match="gone"):
        relay.ask("gone", "abc", patience_s=0.05)
    assert 0 < redis.pttl(relay.keys.relay("gone")) <= 10_000  # the question does not lie there for ever
    assert 0 < redis.pttl(relay.keys.presence("gone")) <= 30_000


def test_one_that_has_left_is_not_waited_for(redis: Redis) -> None:
    relay = Relay(redis)
    relay.answer("left", lambda question: question.encode())
    relay.leave("left")
    assert relay.ask("left", "abc", patience_s=600) is None
    assert redis.keys("*") == []
