import pytest

from exchange.errors import (
    TaskWithdrawn,
)
from exchange.records import TaskChange, TaskState
from tests.exchange.stored import path_of
from tests.exchange.working import take


def test_a_cancelled_task_is_never_claimed(queue, samples):
    task = queue.submit("pets", samples).task
    assert queue.remove(task.id).state is TaskState.CANCELLED
    assert queue.remove(task.id).state is TaskState.CANCELLED
    assert take(queue) is None
    assert queue.depth() == 0


@pytest.fixture
def forgetting(queue, samples):
    """A learned task that is to be forgotten."""
    task = queue.submit("pets", samples).task
    claim = take(queue)
    queue.report(claim, TaskChange(state=TaskState.CONSOLIDATED))
    queue.finish(claim)
    for _ in range(2):
        assert queue.remove(task.id).state is TaskState.FORGETTING
    return task


def test_an_order_to_forget_is_delivered_once_and_needs_no_images(queue, samples, forgetting):
    for sample in samples:
        path_of(queue.blobs, sample.blob).unlink()
    assert queue.depth() == 1
    claim = take(queue)
    assert (claim.task.id, claim.task.state, claim.samples) == (forgetting.id, TaskState.FORGETTING, ())
    queue.report(claim, TaskChange(state=TaskState.FORGOTTEN))
    queue.finish(claim)
    assert queue.remove(forgetting.id).state is TaskState.FORGOTTEN
    assert queue.depth() == 0


def test_what_was_taken_back_can_be_ordered_to_be_forgotten_again(queue, samples):
    task = queue.submit("pets", samples).task
    queue.remove(task.id)
    for _ in range(2):
        assert queue.remove(task.id, again=True).state is TaskState.FORGETTING
    claim = take(queue)
    assert (claim.task.id, claim.task.state) == (task.id, TaskState.FORGETTING)
    queue.report(claim, TaskChange(state=TaskState.FORGOTTEN))
    queue.finish(claim)
    assert queue.depth() == 0


def test_an_order_to_forget_survives_its_worker(queue, other, forgetting, next_term):
    queue.claim("doomed", 0, next_term())
    assert other.claim("heir", 0, next_term()).task.state is TaskState.FORGETTING


def test_a_task_that_cannot_be_forgotten_stays_learned_and_says_why(
    queue, other, forgetting, config, next_term
):
    for life in range(config.max_deaths):
        token = next_term()
        queue.work_on([queue.claim(f"w{life}", 0, token)], token)
    assert other.claim("w-last", 0, next_term()) is None
    failed = queue.get(forgetting.id)
    assert failed.state is TaskState.CONSOLIDATED
    assert "not forgotten" in failed.error
    assert queue.remove(forgetting.id).error is None
    assert take(queue).task.id == forgetting.id


def test_a_task_removed_while_it_is_learned_is_withdrawn_and_forgotten(queue, samples):
    task = queue.submit("pets", samples).task
    learning = take(queue)
    assert queue.remove(task.id).state is TaskState.FORGETTING
    with pytest.raises(TaskWithdrawn):
        queue.report(learning, TaskChange(state=TaskState.SERVED))
    queue.fail(learning, "no")
    assert queue.get(task.id).state is TaskState.FORGETTING
    order = take(queue)
    assert order.task.state is TaskState.FORGETTING
    assert take(queue) is None


def test_what_a_dead_worker_was_learning_is_not_learned_again_when_it_is_to_be_forgotten(
    queue, other, samples, next_term
):
    task = queue.submit("pets", samples).task
    queue.claim("doomed", 0, next_term())
    queue.remove(task.id)
    heir = next_term()
    assert other.claim("heir", 0, heir).task.state is TaskState.FORGETTING
    assert other.claim("heir", 0, heir) is None
    assert other.depth() == 1


def test_a_task_cancelled_just_after_its_delivery_is_skipped(queue, samples, next_term):
    task = queue.submit("pets", samples).task
    delivered = queue._read("w1", 0)
    queue.remove(task.id)
    assert queue._take("w1", next_term(), *delivered) is None
    assert queue.depth() == 0


def test_a_released_task_can_be_cancelled(queue, samples):
    task = queue.submit("pets", samples).task
    queue.release(take(queue))
    queue.remove(task.id)
    assert take(queue) is None
