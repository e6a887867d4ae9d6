import threading
import time

import pytest

from exchange import handling
from exchange.errors import (
    IdempotencyInFlight,
    IdempotencyMismatch,
)
from exchange.records import TaskChange, TaskState

TAKEN_BACK = (TaskState.CANCELLED, TaskState.FORGETTING, TaskState.FORGOTTEN)


def test_the_same_idempotency_key_gives_the_same_task(queue, samples):
    first = queue.submit("pets", samples, idempotency_key="k", digest="d")
    second = queue.submit("pets", samples, idempotency_key="k", digest="d")
    assert (first.created, second.created) == (True, False)
    assert second.task == first.task
    assert queue.depth() == 1


@pytest.mark.parametrize("digests", [("a", "b"), (None, None)])
def test_the_same_key_with_another_body_is_refused(queue, samples, digests):
    queue.submit("pets", samples, "k", digests[0])
    with pytest.raises(IdempotencyMismatch):
        queue.submit("other pets", samples, "k", digests[1])
    assert queue.depth() == 1


@pytest.mark.parametrize("state", TAKEN_BACK)
def test_a_key_is_free_again_once_its_task_was_taken_back(queue, samples, state):
    first = queue.submit("pets", samples, "k")
    queue.update(first.task.id, TaskChange(state))
    assert queue.made_with("k") is None
    again = queue.submit("pets", samples[:1], "k")
    assert (again.created, again.task.state) == (True, TaskState.QUEUED)
    assert again.task.id != first.task.id
    assert queue.submit("pets", samples[:1], "k").task == again.task
    assert queue.get(first.task.id).state == state


@pytest.mark.parametrize("state", [state for state in TaskState if state not in TAKEN_BACK])
def test_a_key_keeps_every_other_task(queue, samples, state):
    first = queue.submit("pets", samples, "k")
    queue.update(first.task.id, TaskChange(state))
    assert queue.made_with("k").task.state == state
    assert queue.submit("pets", samples, "k").task.id == first.task.id


def test_the_same_key_still_works_when_the_queue_is_full(queue, samples, config):
    first = queue.submit("pets", samples, "k")
    for i in range(config.capacity - 1):
        queue.submit(f"t{i}", samples)
    assert queue.submit("pets", samples, "k").task.id == first.task.id


def test_many_submissions_at_once_with_one_key_make_one_task(queue, samples):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(queue.submit("pets", samples, "k"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.task.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1


def test_a_key_in_flight_is_refused_to_others(queue, other):
    with queue.handling("k"), pytest.raises(IdempotencyInFlight), other.handling("k"):
        pass
    with other.handling("k"):
        pass


def test_a_key_stays_in_flight_for_as_long_as_it_takes(queue, redis, monkeypatch):
    monkeypatch.setattr(handling, "RENEWALS", 6000)
    name, deadline = queue.keys.handling("k"), time.monotonic() + 30
    with queue.handling("k", ttl_s=60):
        redis.pexpire(name, 40_000)
        while redis.pttl(name) <= 40_000:
            assert time.monotonic() < deadline, "not renewed"
            time.sleep(0.01)


def test_a_key_in_flight_ends_with_its_process(queue, redis):
    with queue.handling("k", ttl_s=60):
        assert 0 < redis.pttl(queue.keys.handling("k")) <= 60_000


def test_a_late_end_takes_the_key_from_nobody(queue, redis):
    name = queue.keys.handling("k")
    with queue.handling("k"):
        redis.set(name, "somebody else's")
    assert redis.get(name) == b"somebody else's"
