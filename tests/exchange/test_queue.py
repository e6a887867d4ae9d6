import threading
import time
from dataclasses import replace

import pytest

from exchange.errors import (
    BlobMissing,
    BlobUnreadable,
    ExchangeUnavailable,
    LeaseLost,
    QueueFull,
    TaskNotFound,
)
from exchange.queue import TaskQueue
from exchange.records import Sample, TaskChange, TaskState


def test_a_task_goes_from_submission_to_its_end(queue, samples):
    task = queue.submit("pets", samples).task
    assert (task.state, task.images, task.labels) == (TaskState.QUEUED, 3, ("cat", "dog"))
    assert (queue.depth(), queue.lag()) == (1, 1)

    claim = queue.claim("w1", 0)
    assert (claim.task.id, claim.task.state, claim.deliveries) == (task.id, TaskState.LEARNING, 1)
    assert claim.samples == tuple(samples)
    assert (queue.depth(), queue.lag()) == (1, 0)

    queue.update(task.id, TaskChange(state=TaskState.SERVED, version=1, metrics={"loss": 0.5}), claim)
    queue.update(
        task.id, TaskChange(state=TaskState.CONSOLIDATED, progress=1, version=2, metrics={"accuracy": 0.75})
    )
    queue.finish(claim)
    done = queue.get(task.id)
    assert (done.state, done.progress, done.version, done.error) == (TaskState.CONSOLIDATED, 1.0, 2, None)
    waited = done.served_at - done.created_at
    assert done.metrics == {"loss": 0.5, "accuracy": 0.75, "seconds_to_fast": pytest.approx(waited, abs=1e-3)}
    assert done.created_at <= done.served_at <= done.consolidated_at <= done.updated_at
    assert (queue.depth(), queue.lag()) == (0, 0)
    assert queue.claim("w1", 0) is None


def test_redis_holds_no_pixels_and_no_list_of_samples(queue, samples, redis):
    queue.submit("pets", samples)
    held = b"".join(redis.dump(key) for key in redis.scan_iter())
    assert not any(sample.blob.encode() in held for sample in samples)


def test_any_text_comes_back_as_it_went(queue, blobs):
    odd = 'żółw "\\" \x00\x7f\n\u2028 \U0001f422 [] {} 1e400 null'
    [blob] = blobs.put_many([b"one"])
    task = queue.submit(odd, [Sample(blob, odd)], idempotency_key=odd).task
    claim = queue.claim(odd, 0)
    assert (claim.task.name, claim.task.labels, claim.consumer) == (odd, (odd,), odd)
    assert queue.update(task.id, TaskChange(error=odd), claim).error == odd
    queue.fail(claim, odd)
    assert queue.get(task.id).error == odd
    assert queue.events(task.id)[-1].task == queue.get(task.id)


def test_figures_come_back_to_the_last_digit(queue, samples):
    figures = {"loss": 0.1 + 0.2, "tiny": 5e-324, "huge": 1.7976931348623157e308, "count": 2.0**53 + 2}
    task = queue.submit("pets", samples).task
    assert (
        queue.update(task.id, TaskChange(progress=1 / 3, version=2**53 - 1, metrics=figures)).metrics
        == figures
    )
    assert (queue.get(task.id).progress, queue.get(task.id).version) == (1 / 3, 2**53 - 1)


def test_tasks_are_claimed_in_order_and_listed_newest_first(queue, samples):
    ids = [queue.submit(f"t{i}", samples).task.id for i in range(3)]
    assert [queue.claim("w1", 0).task.id for _ in ids] == ids
    assert [task.id for task in queue.newest()] == ids[::-1]
    assert [task.id for task in queue.newest(limit=1)] == ids[-1:]


def test_a_waiting_worker_gets_a_task_at_once(queue, other, samples):
    timer = threading.Timer(0.2, other.submit, ["pets", samples])
    timer.start()
    started = time.monotonic()
    assert queue.claim("w1", 60_000)
    assert time.monotonic() - started < 30
    timer.join()


def test_waiting_ends(queue):
    started = time.monotonic()
    assert queue.claim("w1", 100) is None
    assert time.monotonic() - started >= 0.1


def test_a_full_queue_refuses_until_a_task_ends(queue, samples, config):
    for i in range(config.capacity):
        queue.submit(f"t{i}", samples)
    with pytest.raises(QueueFull, match=str(config.capacity)):
        queue.submit("one too many", samples)
    queue.finish(queue.claim("w1", 0))
    assert queue.submit("fits again", samples).created


def test_a_task_with_an_image_nobody_stored_is_refused(queue):
    with pytest.raises(BlobMissing):
        queue.submit("pets", [Sample("0" * 64, "cat")])
    assert queue.depth() == 0


def test_what_went_wrong_on_the_way_is_no_error_of_a_task_that_got_there(queue, samples):
    task = queue.submit("pets", samples).task
    assert queue.update(task.id, TaskChange(error="the disk is full")).error == "the disk is full"
    assert queue.update(task.id, TaskChange(progress=0.5)).error == "the disk is full"
    assert queue.update(task.id, TaskChange(state=TaskState.CONSOLIDATED)).error is None


@pytest.mark.parametrize(
    ("call", "rest"),
    [("get", ()), ("remove", ()), ("retry", ()), ("events", ()), ("update", (TaskChange(),))],
)
def test_an_unknown_task_is_named(queue, call, rest):
    with pytest.raises(TaskNotFound, match="nobody"):
        getattr(queue, call)("nobody", *rest)


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
        queue.update(old.task.id, TaskChange(state=TaskState.CONSOLIDATED), old)
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
    claim = queue.claim("w1", 0)
    assert queue.claim("w1", 0) is None
    queue.finish(claim)


def test_a_delivery_whose_answer_was_lost_is_repeated_to_the_same_worker(queue, samples):
    queue.submit("pets", samples)
    assert queue._read("w1", 0)
    assert queue.claim("w1", 0).deliveries == 2


def test_a_task_whose_end_did_not_reach_redis_is_delivered_again(queue, samples, monkeypatch):
    queue.submit("pets", samples)
    claim = queue.claim("w1", 0)

    def unreachable(*arguments, **options):
        raise ExchangeUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "run", unreachable)
        with pytest.raises(ExchangeUnavailable):
            queue.finish(claim)
    again = queue.claim("w1", 0)
    assert (again.task.id, again.deliveries) == (claim.task.id, 2)


def test_a_released_task_is_handed_out_at_once(queue, other, samples):
    task = queue.submit("pets", samples).task
    queue.release(queue.claim("w1", 0))
    assert queue.get(task.id).state is TaskState.QUEUED
    assert other.claim("w2", 0).task.id == task.id


def test_ending_twice_is_no_error(queue, samples):
    queue.submit("pets", samples)
    claim = queue.claim("w1", 0)
    queue.finish(claim)
    queue.finish(claim)
    queue.fail(claim, "too late")
    queue.release(claim)
    assert queue.get(claim.task.id).error is None


def test_a_task_whose_list_of_samples_is_damaged_fails_and_the_next_is_claimed(queue, samples, redis):
    bad, good = (queue.submit(name, samples[:size]).task for name, size in (("bad", 1), ("good", 2)))
    listing = redis.hget(queue.keys.task(bad.id), "samples").decode()
    (queue.blobs.root / listing[:2] / listing[2:]).write_bytes(b"[]")
    assert queue.claim("w1", 0).task.id == good.id
    assert listing in queue.get(bad.id).error


def test_a_store_that_is_away_costs_no_task(queue, samples):
    task = queue.submit("t", samples).task
    away = queue.blobs.root.rename(queue.blobs.root.with_name("away"))
    for _ in range(5):
        with pytest.raises(BlobUnreadable):
            queue.claim("w1", 0)
    away.rename(queue.blobs.root)
    assert queue.claim("w1", 0).task.id == task.id


def test_submitting_works_again_after_redis_lost_everything(queue, samples, redis):
    queue.submit("pets", samples)
    queue.claim("w1", 0)
    redis.flushall()
    assert queue.claim("w1", 0) is None
    queue.submit("pets", samples)
    assert queue.claim("w1", 0)


def test_an_answer_lost_on_the_way_does_not_submit_twice(queue, samples, monkeypatch):
    """The client sends a script again when the connection breaks before the answer."""
    run = queue.run

    def twice(*arguments, **options):
        run(*arguments, **options)
        return run(*arguments, **options)

    monkeypatch.setattr(queue, "run", twice)
    assert queue.submit("pets", samples, "k").created
    assert queue.depth() == 1


def test_installations_share_a_redis_without_seeing_each_other(redis, blobs, queue, samples, config):
    queue.submit("pets", samples)
    assert TaskQueue(redis, blobs, replace(config, prefix="other")).newest() == []
