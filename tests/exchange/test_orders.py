"""Orders to rename or forget a class: as durable as tasks, in their place among them, and not to be taken back late."""

import pytest

from exchange import queue_lua as lua
from exchange.errors import IdempotencyMismatch, NotRetryable, OrderGiven, QueueFull, TaskWithdrawn
from exchange.records import LabelChange, TaskChange, TaskState
from exchange.upkeep import sweep_blobs
from tests.exchange.publishing import publish
from tests.exchange.working import take

RENAME, FORGET = LabelChange("rosse", "rose"), LabelChange("rose", None)


def test_an_order_is_a_task_that_says_what_it_is(queue):
    renaming, forgetting = (queue.order(change).task for change in (RENAME, FORGET))
    assert (renaming.change, forgetting.change) == (RENAME, FORGET)
    assert (renaming.name, renaming.labels, renaming.images) == (
        "rename: rosse -> rose",
        ("rose", "rosse"),
        0,
    )
    assert (forgetting.name, forgetting.labels) == ("forget: rose", ("rose",))
    assert queue.newest() == [forgetting, renaming]
    assert [event.task for event in queue.events(renaming.id)] == [renaming]


def test_a_task_is_no_order(queue, samples):
    assert queue.submit("pets", samples).task.change is None


def test_orders_keep_their_place_among_tasks_and_stay_queued_until_they_are_carried_out(queue, samples):
    before = queue.submit("before", samples).task.id
    order = queue.order(RENAME).task.id
    after = queue.submit("after", samples).task.id
    claims = [take(queue) for _ in range(3)]
    assert [claim.task.id for claim in claims] == [before, order, after]
    assert (claims[1].task.change, claims[1].task.state, claims[1].samples) == (RENAME, TaskState.QUEUED, ())
    queue.release(claims[1])
    assert queue.get(order).state is TaskState.QUEUED


def test_an_order_that_was_begun_and_given_back_cannot_be_taken_back(queue):
    """It may have been carried out, by a trainer that could not say so."""
    order = queue.order(RENAME).task.id
    claim = take(queue)
    queue.report(claim, TaskChange(state=TaskState.LEARNING))
    queue.release(claim)
    with pytest.raises(OrderGiven):
        queue.remove(order)
    assert take(queue, "w2").task.id == order


def test_an_order_survives_its_worker(queue, other, next_term):
    order = queue.order(FORGET).task
    queue.claim("doomed", 0, next_term())
    claim = other.claim("heir", 0, next_term())
    assert (claim.task.id, claim.task.change) == (order.id, FORGET)


def test_the_same_key_and_order_is_the_same_task(queue):
    order = queue.order(RENAME, "once")
    again = queue.order(RENAME, "once")
    assert (order.created, again.created, again.task) == (True, False, order.task)
    for other in (FORGET, LabelChange("rosse", "tulip"), LabelChange("rosse", None)):
        with pytest.raises(IdempotencyMismatch):
            queue.order(other, "once")


def test_a_full_queue_takes_no_order(queue, config):
    for _ in range(config.capacity):
        queue.order(FORGET)
    with pytest.raises(QueueFull):
        queue.order(FORGET)


@pytest.mark.parametrize("claimed", [False, True])
def test_an_order_that_waits_can_be_cancelled_although_a_trainer_holds_it(queue, claimed):
    order = queue.order(RENAME, "once").task.id
    claim = take(queue) if claimed else None
    for _ in range(2):
        assert queue.remove(order).state is TaskState.CANCELLED
    assert queue.depth() == 0
    if claim:
        with pytest.raises(TaskWithdrawn):
            queue.report(claim, TaskChange(state=TaskState.LEARNING))
        queue.finish(claim)
    assert take(queue) is None
    assert queue.order(RENAME, "once").created, "its key is free again"


def test_an_order_that_was_cancelled_and_forgotten_about_is_withdrawn(queue):
    order = queue.order(RENAME).task.id
    claim = take(queue)
    queue.remove(order)
    assert queue.run(lua.DROP, order), "as one of the oldest records"
    with pytest.raises(TaskWithdrawn):
        queue.report(claim, TaskChange(state=TaskState.LEARNING))
    queue.finish(claim)


@pytest.mark.parametrize("state", [TaskState.LEARNING, TaskState.CONSOLIDATED])
def test_an_order_that_no_longer_waits_cannot_be_taken_back(queue, state):
    order = queue.order(RENAME).task.id
    claim = take(queue)
    queue.report(claim, TaskChange(state=state))
    for again in (False, True):
        with pytest.raises(OrderGiven, match=r"activate an older version to undo it"):
            queue.remove(order, again=again)
    assert queue.get(order).state is state
    assert queue.depth() == 1


def test_an_order_that_failed_is_given_anew_and_not_tried_again(queue):
    order = queue.order(RENAME).task.id
    queue.fail(take(queue), "no class is called 'rosse' any more")
    failed = queue.get(order)
    assert (failed.state, failed.error) == (TaskState.FAILED, "no class is called 'rosse' any more")
    with pytest.raises(NotRetryable, match=r"is an order to rename or forget a class; give it anew"):
        queue.retry(order)
    assert queue.depth() == 0
    assert queue.remove(order).state is TaskState.CANCELLED


def test_an_order_at_which_trainers_die_fails(queue, next_term, config):
    order = queue.order(FORGET).task.id
    for life in range(config.max_deaths):
        token = next_term()
        queue.work_on([queue.claim(f"w{life}", 0, token)], token)
    assert queue.claim("last", 0, next_term()) is None
    assert "died or stalled 3 times" in queue.get(order).error


def test_blobs_are_swept_beside_orders(queue, blobs, samples, registry):
    publish(registry)
    queue.submit("pets", samples)
    queue.order(FORGET)
    lost = blobs.put(b"of no task")
    sweep_blobs(queue, older_than_s=-1)
    assert not blobs.exists(lost)
    assert all(blobs.exists(sample.blob) for sample in samples)
