import pytest

from exchange.errors import LeaseLost
from exchange.lease import Lease
from exchange.redis_keys import Keys


@pytest.fixture
def lease(redis):
    return Lease(redis)


@pytest.fixture
def run_out(redis):
    """Lets the lease run out, as Redis would by itself after a while."""
    return lambda: redis.delete(Keys().lease)


def test_one_holds_it_until_it_is_released(lease):
    token = lease.acquire()
    assert lease.acquire() is None
    lease.release(token)
    assert lease.acquire() not in (None, token)


def test_renewing_gives_it_its_whole_time_again(lease, redis):
    token = lease.acquire()
    redis.pexpire(Keys().lease, 1000)
    lease.renew(token)
    assert 1000 < redis.pttl(Keys().lease) <= lease.ttl_s * 1000
    assert lease.acquire() is None


def test_a_silent_holder_is_replaced_and_told(lease, run_out):
    old = lease.acquire()
    run_out()
    new = lease.acquire()
    assert new not in (None, old)
    with pytest.raises(LeaseLost):
        lease.renew(old)
    lease.release(old)
    assert lease.acquire() is None
    lease.renew(new)


def test_a_late_holder_goes_on_where_nobody_came(lease, run_out):
    token = lease.acquire()
    run_out()
    lease.renew(token)
    assert lease.acquire() is None


def test_a_holder_from_before_redis_lost_its_data_is_told(lease, redis):
    old = lease.acquire()
    redis.flushall()
    new = lease.acquire()
    with pytest.raises(LeaseLost):
        lease.renew(old)
    lease.renew(new)
