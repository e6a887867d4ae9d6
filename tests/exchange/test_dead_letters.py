import pytest

from exchange.errors import (
    BlobMissing,
    NotRetryable,
    QueueFull,
)
from exchange.records import TaskChange, TaskState
from tests.exchange.stored import path_of


def test_a_dead_letter_can_be_taken_off_the_list(queue, samples):
    task = queue.submit("pets", samples).task
    queue.fail(queue.claim("w1", 0), "no")
    assert queue.remove(task.id).state is TaskState.CANCELLED
    with pytest.raises(NotRetryable):
        queue.retry(task.id)


def test_poison_keeps_the_last_words_of_its_worker(queue, samples, config, next_term):
    task = queue.submit("poison", samples).task
    for life in range(config.max_deliveries):
        claim = queue.claim(f"w{life}", 0, next_term())
        queue.update(task.id, TaskChange(error="MemoryError"), claim)
    assert queue.claim("w-last", 0, next_term()) is None
    assert queue.get(task.id).error.endswith("last it said: MemoryError")


def test_poison_becomes_a_dead_letter_and_can_be_tried_again(queue, samples, config, next_term):
    task = queue.submit("poison", samples).task
    for life in range(config.max_deliveries):
        assert queue.claim(f"w{life}", 0, next_term()).deliveries == life + 1
    assert queue.claim("w-last", 0, next_term()) is None
    failed = queue.get(task.id)
    assert failed.state is TaskState.FAILED
    assert "3 times" in failed.error
    assert queue.depth() == 0

    again = queue.retry(task.id)
    assert (again.state, again.error) == (TaskState.QUEUED, None)
    assert queue.claim("w1", 0).deliveries == 1


def test_a_served_task_does_not_die_with_its_poisonous_neighbour(queue, samples, config, next_term):
    poison, innocent = (queue.submit(name, samples).task for name in ("poison", "innocent"))
    for life in range(config.max_deliveries):
        token = next_term()
        queue.claim(f"w{life}", 0, token)
        queue.claim(f"w{life}", 0, token)
        queue.update(innocent.id, TaskChange(state=TaskState.SERVED))
    claim = queue.claim("w-last", 0, next_term())
    assert (claim.task.id, claim.deliveries) == (innocent.id, 1)
    assert queue.get(poison.id).state is TaskState.FAILED


def test_a_failed_task_keeps_its_reason(queue, samples):
    task = queue.submit("pets", samples).task
    queue.fail(queue.claim("w1", 0), "image 2 is no image" + "!" * 10_000)
    failed = queue.get(task.id)
    assert failed.error.startswith("image 2")
    assert len(failed.error) <= 2000
    assert queue.depth() == 0


def test_only_dead_letters_can_be_retried(queue, samples):
    task = queue.submit("pets", samples).task
    claim = queue.claim("w1", 0)
    with pytest.raises(NotRetryable):
        queue.retry(task.id)
    queue.fail(claim, "no")
    path_of(queue.blobs, samples[0].blob).unlink()
    with pytest.raises(BlobMissing):
        queue.retry(task.id)


def test_a_full_queue_takes_no_dead_letter_but_keeps_it(queue, samples, config):
    task = queue.submit("pets", samples).task
    queue.fail(queue.claim("w1", 0), "no")
    for i in range(config.capacity):
        queue.submit(f"t{i}", samples)
    with pytest.raises(QueueFull):
        queue.retry(task.id)
    queue.remove(queue.newest()[0].id)
    assert queue.retry(task.id).state is TaskState.QUEUED
