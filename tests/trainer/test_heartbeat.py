"""What a trainer learns when its lease cannot be kept."""

from __future__ import annotations

import pytest
from redis import Redis
from structlog.testing import capture_logs

from exchange.errors import LeaseLost
from exchange.lease import Lease
from exchange.redis_keys import DEFAULT_PREFIX, Keys
from trainer.heartbeat import Heartbeat


def test_a_lease_that_can_never_be_renewed_is_lost_and_not_silently_forgotten(redis: Redis) -> None:
    lease = Lease(redis, ttl_s=0.1)
    token = lease.acquire()
    assert token is not None
    with capture_logs() as lines, Heartbeat(lease, token) as beat:
        beat.check()
        key = Keys(DEFAULT_PREFIX).lease_token
        with redis.pipeline(transaction=True) as pipe:  # a beat in between would find the lease lost
            pipe.delete(key)
            pipe.rpush(key, "no number")  # Redis answers, and with an error
            pipe.execute()
        assert beat.lost.wait(10)
        with pytest.raises(LeaseLost):
            beat.check()
    assert [line["event"] for line in lines] == ["cannot renew the lease"]
