import pytest
from redis import Redis, exceptions

from exchange.connection import connect
from exchange.embedded import EmbeddedRedis
from exchange.errors import ExchangeUnavailable, LeaseLost
from exchange.lease import Lease
from exchange.redis_keys import Keys


@pytest.fixture
def lease(redis):
    return Lease(redis)


@pytest.fixture
def run_out(redis):
    """Lets the lease run out, as Redis would by itself after a while."""
    return lambda: redis.delete(Keys().lease)


@pytest.fixture
def rival(redis):
    """The same lease as another trainer asks for it."""
    return Lease(redis)


def test_one_holds_it_until_it_is_released(lease, rival):
    token = lease.acquire()
    assert rival.acquire() is None
    lease.release(token)
    assert lease.acquire() not in (None, token)


def test_whoever_asks_about_tasks_is_told_of_its_holder(lease, queue):
    assert not queue.has_trainer()
    token = lease.acquire()
    assert queue.has_trainer()
    lease.release(token)
    assert not queue.has_trainer()


def test_renewing_gives_it_its_whole_time_again(lease, rival, redis):
    token = lease.acquire()
    redis.pexpire(Keys().lease, 1000)
    lease.renew(token)
    assert 1000 < redis.pttl(Keys().lease) <= lease.ttl_s * 1000
    assert rival.acquire() is None


def test_a_silent_holder_is_replaced_and_told(lease, rival, run_out):
    old = lease.acquire()
    run_out()
    new = rival.acquire()
    assert new not in (None, old)
    with pytest.raises(LeaseLost):
        lease.renew(old)
    lease.release(old)
    assert lease.acquire() is None
    rival.renew(new)


def test_a_late_holder_goes_on_where_nobody_came(lease, rival, run_out):
    token = lease.acquire()
    run_out()
    lease.renew(token)
    assert rival.acquire() is None


def test_a_holder_from_before_redis_lost_its_data_is_told(lease, redis):
    old = lease.acquire()
    redis.flushall()
    new = lease.acquire()
    with pytest.raises(LeaseLost):
        lease.renew(old)
    lease.renew(new)


@pytest.fixture
def restarted(tmp_path):
    """A lease on a Redis that the test stops and starts, and that Redis."""
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    try:
        with connect(server.url) as redis:
            yield Lease(redis, ttl_s=600), server
    finally:
        server.stop()


def unreleased(lease, server):
    """A token that could not be given back, since Redis was away."""
    token = lease.acquire()
    server.stop()
    with pytest.raises(ExchangeUnavailable):
        lease.release(token)
    return token


def test_a_lease_that_could_not_be_released_does_not_keep_its_own_trainer_waiting(restarted):
    lease, server = restarted
    old = unreleased(lease, server)
    with pytest.raises(ExchangeUnavailable):
        lease.acquire()
    server.start()
    assert Lease(lease.redis).acquire() is None, "Redis kept it"
    new = lease.acquire()
    assert new not in (None, old)
    with pytest.raises(LeaseLost):
        lease.renew(old)
    lease.renew(new)
    assert Lease(lease.redis).acquire() is None, "nobody else takes it over"


def test_a_lease_that_could_not_be_released_is_nobodys_once_another_took_it(restarted):
    lease, server = restarted
    old = unreleased(lease, server)
    server.start()
    lease.redis.delete(Keys().lease)
    other = Lease(lease.redis)
    theirs = other.acquire()
    assert lease.acquire() is None
    with pytest.raises(LeaseLost):
        lease.renew(old)
    other.renew(theirs)


@pytest.mark.parametrize("back_in_time", [True, False])
def test_what_a_trainer_worked_on_while_redis_was_away_counts_against_no_task(restarted, back_in_time):
    lease, server = restarted
    if back_in_time:
        old = lease.acquire()
        lease.release(old)
    else:
        old = unreleased(lease, server)
        server.start()
    working = (
        Keys().working
    )  # as the queue had left it, since Redis could not be told that the work had ended
    lease.redis.hset(working, mapping={"its own": old, "of a trainer that died": old + 1})
    assert lease.acquire()
    assert lease.redis.hkeys(working) == [b"of a trainer that died"]


def lost(_answer):
    raise exceptions.ConnectionError("the answer never came")


def test_an_acquisition_whose_answer_was_lost_is_asked_for_again(redis_server, redis, monkeypatch):
    with connect(redis_server.url) as client:
        lease = Lease(client)
        with monkeypatch.context() as losing:
            losing.setattr(client, "eval", lambda *asked: lost(Redis.eval(client, *asked)))
            with pytest.raises(ExchangeUnavailable):
                lease.acquire()
        assert Lease(redis).acquire() is None, "it was acquired"
        lease.renew(lease.acquire())
