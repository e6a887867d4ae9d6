import time

import pytest

from exchange.queue import QueueConfig, TaskQueue
from exchange.records import TaskChange, TaskState
from tests.exchange.working import take


def test_events_tell_the_whole_story_in_order(queue, samples):
    task = queue.submit("pets", samples).task
    claim = take(queue)
    queue.update(task.id, TaskChange(state=TaskState.SERVED, version=4, metrics={"loss": 0.5}))
    queue.update(task.id, TaskChange(state=TaskState.CONSOLIDATED, progress=1))
    queue.finish(claim)
    events = queue.events(task.id)
    assert [event.task.state for event in events] == ["queued", "learning", "served", "consolidated"]
    assert [event.task.version for event in events] == [None, None, 4, 4]
    assert events[-1].task == queue.get(task.id)
    assert queue.events(task.id, after=events[1].id) == events[2:]
    assert queue.events(task.id, after=events[-1].id) == []


@pytest.mark.parametrize("after", ["x", "", "$", "1-2-3", "1 2", "9" * 30])
def test_an_id_that_is_none_is_refused(queue, samples, after):
    task = queue.submit("pets", samples).task
    with pytest.raises(ValueError, match="after"):
        queue.events(task.id, after=after)


def test_once_its_events_are_gone_a_task_is_told_as_it_is_until_it_changes(queue, samples, redis):
    task = queue.submit("pets", samples).task
    [first] = queue.events(task.id)
    time.sleep(0.002)  # events of one millisecond are told apart by a count, which starts anew
    queue.update(task.id, TaskChange(progress=0.5))
    redis.delete(queue.keys.events(task.id))
    [state] = queue.events(task.id)
    assert state.task == queue.get(task.id)
    assert queue.events(task.id, after=first.id) == [state]
    assert queue.events(task.id, after=state.id) == []
    assert queue.events(task.id, after=state.id.partition("-")[0]) == []
    time.sleep(0.002)
    queue.update(task.id, TaskChange(progress=0.75))
    [change] = queue.events(task.id, after=state.id)
    assert change.task.progress == 0.75


def test_events_are_capped_and_expire(redis, blobs, samples):
    queue = TaskQueue(redis, blobs, QueueConfig(events=5, event_ttl_s=100))
    task = queue.submit("pets", samples).task
    for step in range(20):
        queue.update(task.id, TaskChange(progress=step / 20))
    assert [event.task.progress for event in queue.events(task.id)] == [0.75, 0.8, 0.85, 0.9, 0.95]
    assert 0 < redis.ttl(queue.keys.events(task.id)) <= 100


def test_an_empty_queue_has_no_depth_and_no_lag(queue):
    assert (queue.depth(), queue.lag()) == (0, 0)
