import threading
import time

import pytest

from exchange.errors import BlobUnreadable, ExchangeUnavailable, LeaseLost
from exchange.records import TaskChange, TaskState
from tests.exchange.working import take


def test_a_waiting_worker_gets_a_task_at_once(queue, other, samples):
    timer = threading.Timer(0.2, other.submit, ["pets", samples])
    timer.start()
    started = time.monotonic()
    assert take(queue, block_ms=60_000)
    assert time.monotonic() - started < 30
    timer.join()


def test_waiting_ends(queue):
    started = time.monotonic()
    assert take(queue, block_ms=100) is None
    assert time.monotonic() - started >= 0.1


def test_who_takes_over_is_given_what_was_begun_before_what_waits(queue, other, samples, next_term):
    begun = [queue.submit(f"t{i}", samples).task.id for i in range(2)]
    before = next_term()
    for _ in begun:
        queue.claim("w1", 0, before)
    waits = queue.submit("new", samples).task.id
    heir = next_term()
    assert [other.claim("w2", 0, heir).task.id for _ in range(3)] == [*begun, waits]


def test_a_worker_whose_lease_another_holds_is_told_whatever_it_says(queue, other, samples, next_term):
    """It may have been stopped for longer than its lease, and wake up before its heartbeat does."""
    queue.submit("pets", samples)
    before = next_term()
    old = queue.claim("w1", 0, before)
    heir = next_term()
    for late in (queue.finish, lambda claim: queue.fail(claim, "late")):
        with pytest.raises(LeaseLost):
            late(old)
    with pytest.raises(LeaseLost):
        queue.report(old, TaskChange(state=TaskState.CONSOLIDATED))
    queue.release(old)
    assert queue.get(old.task.id).state is TaskState.LEARNING
    new = other.claim("w2", 0, heir)
    assert (new.task.id, new.deliveries) == (old.task.id, 2)
    other.finish(new)


def test_a_worker_whose_lease_another_holds_is_given_nothing(queue, other, samples, next_term):
    begun = queue.submit("begun", samples).task.id
    before = next_term()
    queue.claim("w1", 0, before)
    heir = next_term()
    waits = queue.submit("new", samples).task.id
    with pytest.raises(LeaseLost):
        queue.claim("w1", 0, before)
    delivered = queue._read("w1", 0)  # asked for before the lease went to another, answered after
    assert delivered is not None
    with pytest.raises(LeaseLost):
        queue._take("w1", before, *delivered)
    assert [other.claim("w2", 0, heir).task.id for _ in range(2)] == [begun, waits]


def test_a_term_is_given_what_the_one_before_it_in_the_same_process_left(queue, samples, next_term):
    task = queue.submit("pets", samples).task.id
    queue.claim("w1", 0, next_term())
    assert queue.claim("w1", 0, next_term()).task.id == task


def test_a_worker_is_not_handed_what_it_holds(queue, samples):
    queue.submit("pets", samples)
    claim = take(queue)
    assert take(queue) is None
    queue.finish(claim)


def test_a_delivery_whose_answer_was_lost_is_repeated_to_the_same_worker(queue, samples):
    queue.submit("pets", samples)
    assert queue._read("w1", 0)
    assert take(queue).deliveries == 2


def test_a_task_whose_end_did_not_reach_redis_is_delivered_again(queue, samples, monkeypatch):
    queue.submit("pets", samples)
    claim = take(queue)

    def unreachable(*arguments, **options):
        raise ExchangeUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "run", unreachable)
        with pytest.raises(ExchangeUnavailable):
            queue.finish(claim)
    again = take(queue)
    assert (again.task.id, again.deliveries) == (claim.task.id, 2)


def test_a_released_task_is_handed_out_at_once(queue, other, samples):
    task = queue.submit("pets", samples).task
    queue.release(take(queue))
    assert queue.get(task.id).state is TaskState.QUEUED
    assert take(other, "w2").task.id == task.id


def test_ending_twice_is_no_error(queue, samples):
    queue.submit("pets", samples)
    claim = take(queue)
    queue.finish(claim)
    queue.finish(claim)
    queue.fail(claim, "too late")
    queue.release(claim)
    assert queue.get(claim.task.id).error is None


def test_a_task_whose_list_of_samples_is_damaged_fails_and_the_next_is_claimed(queue, samples, redis):
    bad, good = (queue.submit(name, samples[:size]).task for name, size in (("bad", 1), ("good", 2)))
    listing = redis.hget(queue.keys.task(bad.id), "samples").decode()
    (queue.blobs.root / listing[:2] / listing[2:]).write_bytes(b"[]")
    assert take(queue).task.id == good.id
    assert listing in queue.get(bad.id).error


@pytest.mark.parametrize(
    "entry", [{"task": "ghost", "samples": "zz"}, {"foo": "bar"}, {b"task": b"\xff\xc3"}]
)
def test_what_a_stranger_wrote_into_the_stream_is_removed(queue, samples, redis, entry):
    redis.xadd(queue.keys.queue, entry)
    task = queue.submit("pets", samples).task
    claim = take(queue)
    assert claim.task.id == task.id
    queue.finish(claim)
    assert queue.depth() == 0


def test_a_store_that_is_away_costs_no_task(queue, samples):
    task = queue.submit("t", samples).task
    away = queue.blobs.root.rename(queue.blobs.root.with_name("away"))
    for _ in range(5):
        with pytest.raises(BlobUnreadable):
            take(queue)
    away.rename(queue.blobs.root)
    assert take(queue).task.id == task.id
