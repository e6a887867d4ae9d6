from dataclasses import replace

import pytest

from exchange import queue_lua as lua
from exchange.errors import (
    BlobMissing,
    NotRetryable,
    QueueFull,
)
from exchange.records import TaskChange, TaskState
from exchange.work import WorkQueue
from tests.exchange.stored import path_of
from tests.exchange.working import take


def test_a_dead_letter_can_be_taken_off_the_list(queue, samples):
    task = queue.submit("pets", samples).task
    queue.fail(take(queue), "no")
    assert queue.remove(task.id).state is TaskState.CANCELLED
    with pytest.raises(NotRetryable, match=r"is cancelled; it must have failed to be tried again"):
        queue.retry(task.id)


def test_a_dead_letter_that_newer_ones_took_the_place_of_is_said_to_be_gone(redis, blobs, config, samples):
    queue = WorkQueue(redis, blobs, replace(config, dead_letters=1))
    first, second = (queue.submit(name, samples).task for name in ("pets", "more"))
    for _ in range(2):
        queue.fail(take(queue), "no")
    with pytest.raises(NotRetryable, match=r"failed too long ago: the newest 1 failed tasks are kept"):
        queue.retry(first.id)
    assert queue.retry(second.id).state is TaskState.QUEUED


@pytest.fixture
def die_at(queue, next_term):
    """Begins a term, claims everything, reports on it in some state, and dies while working on one task of it."""

    def live(task, state=TaskState.CONSOLIDATING, error=None):
        token, claims = next_term(), []
        while claim := queue.claim(f"w{token}", 0, token):
            claims.append(claim)
            queue.report(claim, TaskChange(state=state))
        [culprit] = [claim for claim in claims if claim.task.id == task]
        queue.work_on([culprit], token)
        queue.report(culprit, TaskChange(error=error))

    return live


def test_poison_keeps_the_last_words_of_its_worker(queue, samples, config, next_term, die_at):
    task = queue.submit("poison", samples).task
    for _ in range(config.max_deaths):
        die_at(task.id, error="MemoryError")
    assert queue.claim("w-last", 0, next_term()) is None
    assert queue.get(task.id).error.endswith("last it said: MemoryError")


def test_poison_becomes_a_dead_letter_and_can_be_tried_again(queue, samples, config, next_term, die_at):
    task = queue.submit("poison", samples).task
    for _ in range(config.max_deaths):
        die_at(task.id)
    assert queue.claim("w-last", 0, next_term()) is None
    failed = queue.get(task.id)
    assert failed.state is TaskState.FAILED
    assert "3 times" in failed.error
    assert queue.depth() == 0

    again = queue.retry(task.id)
    assert (again.state, again.error) == (TaskState.QUEUED, None)
    assert take(queue).task.id == task.id


@pytest.mark.parametrize("state", [TaskState.LEARNING, TaskState.SERVED, TaskState.CONSOLIDATING])
def test_a_task_does_not_die_with_its_poisonous_neighbour(queue, samples, config, next_term, die_at, state):
    poison, innocent = (queue.submit(name, samples).task for name in ("poison", "innocent"))
    for _ in range(config.max_deaths):
        die_at(poison.id, state)
    token = next_term()
    assert queue.claim("w-last", 0, token).task.id == innocent.id
    assert queue.claim("w-last", 0, token) is None
    assert queue.get(poison.id).state is TaskState.FAILED


def test_a_death_after_the_work_is_done_counts_against_nobody(queue, samples, config, next_term):
    task = queue.submit("pets", samples).task
    for _ in range(config.max_deaths + 1):
        token = next_term()
        claim = queue.claim("w1", 0, token)
        queue.work_on([claim], token)
        queue.work_on([], token)
    assert queue.get(task.id).state is TaskState.LEARNING


def test_who_was_superseded_puts_no_blame_on_anybody(queue, samples, config, next_term):
    """It works on until it is told: by then the task is another trainer's, which did not die at it."""
    task = queue.submit("pets", samples).task
    before = next_term()
    claim = queue.claim("w1", 0, before)
    for _ in range(config.max_deaths + 1):
        assert queue.claim("w2", 0, next_term()).task.id == task.id
        queue.work_on([claim], before)


def test_a_record_that_is_gone_does_not_come_back_by_blame(queue, samples, redis, next_term):
    token = next_term()
    queue.submit("pets", samples)
    claim = queue.claim("w1", 0, token)
    queue.work_on([claim], token)
    queue.report(claim, TaskChange(state=TaskState.CONSOLIDATED))
    queue.finish(claim)
    assert queue.run(lua.DROP, claim.task.id)
    queue.claim("w2", 0, next_term())
    assert not redis.exists(queue.keys.task(claim.task.id))


def test_a_failed_task_keeps_its_reason(queue, samples):
    task = queue.submit("pets", samples).task
    queue.fail(take(queue), "image 2 is no image" + "!" * 10_000)
    failed = queue.get(task.id)
    assert failed.error.startswith("image 2")
    assert len(failed.error) <= 2000
    assert queue.depth() == 0


def test_only_dead_letters_can_be_retried(queue, samples):
    task = queue.submit("pets", samples).task
    claim = take(queue)
    with pytest.raises(NotRetryable):
        queue.retry(task.id)
    queue.fail(claim, "no")
    path_of(queue.blobs, samples[0].blob).unlink()
    with pytest.raises(BlobMissing):
        queue.retry(task.id)


def test_a_full_queue_takes_no_dead_letter_but_keeps_it(queue, samples, config):
    task = queue.submit("pets", samples).task
    queue.fail(take(queue), "no")
    for i in range(config.capacity):
        queue.submit(f"t{i}", samples)
    with pytest.raises(QueueFull):
        queue.retry(task.id)
    queue.remove(queue.newest()[0].id)
    assert queue.retry(task.id).state is TaskState.QUEUED


def test_a_task_that_is_tried_again_is_not_said_to_be_served(queue, samples):
    task = queue.submit("pets", samples).task.id
    claim = take(queue)
    served = queue.report(claim, TaskChange(TaskState.SERVED, version=7))
    queue.fail(claim, "it costs earlier tasks too much")
    tried = queue.retry(task)
    assert (tried.state, tried.version, tried.served_at, tried.metrics) == (TaskState.QUEUED, None, None, {})
    again = queue.report(take(queue), TaskChange(TaskState.SERVED, version=9))
    assert (again.version, again.metrics.keys()) == (9, {"seconds_to_fast"})
    assert served.served_at < again.served_at
