import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import ResponseError

from exchange.connection import connect, reaching_redis
from exchange.embedded import EmbeddedRedis
from exchange.errors import ExchangeUnavailable
from exchange.lease import Lease
from exchange.registry import Registry
from tests.exchange.working import take


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match="scheme"):
        connect("http://localhost")


def test_a_server_that_is_not_there_is_reported_soon(tmp_path):
    with connect(f"unix://{tmp_path}/nobody.sock") as client:
        started = time.monotonic()
        for call in (Registry(client, tmp_path).current, Lease(client).acquire):
            with pytest.raises(ExchangeUnavailable, match="cannot be reached"):
                call()
        assert time.monotonic() - started < 20, "with retries that give up"


def test_a_full_server_is_reported_as_unavailable(redis, queue, samples):
    queue.submit("pets", samples)
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(ExchangeUnavailable, match="refuses writes"):
            queue.submit("more pets", samples)
        assert queue.depth() == 1
    finally:
        redis.config_set("maxmemory", 0)


@pytest.fixture
def demote(redis):
    """Makes the server a replica of one that is not there, as a failover does with the master it replaces."""
    yield lambda: redis.replicaof("127.0.0.1", 1)
    redis.replicaof("NO", "ONE")
    redis.config_set("replica-serve-stale-data", "yes")


def test_a_server_that_becomes_a_replica_while_a_worker_waits_is_unavailable(redis, queue, demote):
    take(queue)
    with ThreadPoolExecutor(1) as pool:
        claimed = pool.submit(take, queue, block_ms=5_000)
        while not redis.info("clients")["blocked_clients"]:
            time.sleep(0.01)
        demote()
        with pytest.raises(ExchangeUnavailable):
            claimed.result()


def test_a_replica_that_answers_nothing_without_its_master_is_unavailable(redis, queue, demote):
    redis.config_set("replica-serve-stale-data", "no")
    demote()
    with pytest.raises(ExchangeUnavailable, match="cannot answer now"):
        queue.depth()


def test_a_server_that_is_busy_with_a_script_is_unavailable():
    with pytest.raises(ExchangeUnavailable, match="cannot answer now"), reaching_redis():
        raise ResponseError("BUSY Redis is busy running a script. You can only call SCRIPT KILL.")
    with pytest.raises(ResponseError), reaching_redis():
        raise ResponseError("BUSYGROUP Consumer Group name already exists")


def test_a_mistake_of_ours_is_no_outage(redis):
    with pytest.raises(Exception, match="wrong number of arguments"), reaching_redis():
        redis.execute_command("GET")


def test_a_client_reconnects_after_the_server_was_killed(tmp_path):
    with EmbeddedRedis(tmp_path) as server, connect(server.url) as client:
        client.set("a", 1)
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        with pytest.raises(ExchangeUnavailable), reaching_redis():
            client.get("a")
        server.start()
        assert client.get("a") == b"1"
