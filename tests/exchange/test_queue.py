from dataclasses import replace

import pytest

from exchange.errors import (
    BlobMissing,
    QueueFull,
    TaskNotFound,
)
from exchange.queue import TaskQueue
from exchange.records import Sample, TaskChange, TaskState
from tests.exchange.working import take


def test_a_task_goes_from_submission_to_its_end(queue, samples):
    task = queue.submit("pets", samples).task
    assert (task.state, task.images, task.labels) == (TaskState.QUEUED, 3, ("cat", "dog"))
    assert (queue.depth(), queue.lag()) == (1, 1)

    claim = take(queue)
    assert (claim.task.id, claim.task.state, claim.deliveries) == (task.id, TaskState.LEARNING, 1)
    assert claim.samples == tuple(samples)
    assert (queue.depth(), queue.lag()) == (1, 0)

    queue.report(claim, TaskChange(state=TaskState.SERVED, version=1, metrics={"loss": 0.5}))
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
    assert take(queue) is None


def test_redis_holds_no_pixels_and_no_list_of_samples(queue, samples, redis):
    queue.submit("pets", samples)
    held = b"".join(redis.dump(key) for key in redis.scan_iter())
    assert not any(sample.blob.encode() in held for sample in samples)


def test_any_text_comes_back_as_it_went(queue, blobs):
    odd = 'żółw "\\" \x00\x7f\n\u2028 \U0001f422 [] {} 1e400 null'
    [blob] = blobs.put_many([b"one"])
    task = queue.submit(odd, [Sample(blob, odd)], idempotency_key=odd).task
    claim = take(queue, odd)
    assert (claim.task.name, claim.task.labels, claim.consumer) == (odd, (odd,), odd)
    assert queue.report(claim, TaskChange(error=odd)).error == odd
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
    assert [take(queue).task.id for _ in ids] == ids
    assert [task.id for task in queue.newest()] == ids[::-1]
    assert [task.id for task in queue.newest(limit=1)] == ids[-1:]


def test_a_full_queue_refuses_until_a_task_ends(queue, samples, config):
    for i in range(config.capacity):
        queue.submit(f"t{i}", samples)
    with pytest.raises(QueueFull, match=str(config.capacity)):
        queue.submit("one too many", samples)
    queue.finish(take(queue))
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


def test_submitting_works_again_after_redis_lost_everything(queue, samples, redis):
    queue.submit("pets", samples)
    take(queue)
    redis.flushall()
    assert take(queue) is None
    queue.submit("pets", samples)
    assert take(queue)


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
