import time

import pytest

from exchange.errors import LeaseLost
from exchange.lease import Lease


@pytest.fixture
def lease(redis):
    return Lease(redis, ttl_s=0.1)


def test_one_holds_it_until_it_is_released(lease):
    token = lease.acquire()
    assert lease.acquire() is None
    lease.release(token)
    assert lease.acquire() not in (None, token)


def test_renewing_keeps_it(lease):
    token = lease.acquire()
    for _ in range(4):
        time.sleep(0.05)
        lease.renew(token)
    assert lease.acquire() is None


def test_a_silent_holder_is_replaced_and_told(lease):
    old = lease.acquire()
    time.sleep(0.15)
    new = lease.acquire()
    assert new not in (None, old)
    with pytest.raises(LeaseLost):
        lease.renew(old)
    lease.release(old)
    assert lease.acquire() is None
    lease.renew(new)


def test_a_late_holder_goes_on_where_nobody_came(lease):
    token = lease.acquire()
    time.sleep(0.15)
    lease.renew(token)
    assert lease.acquire() is None


def test_a_holder_from_before_redis_lost_its_data_is_told(lease, redis):
    old = lease.acquire()
    redis.flushall()
    new = lease.acquire()
    with pytest.raises(LeaseLost):
        lease.renew(old)
    lease.renew(new)
