import time

import pytest

from exchange import upkeep
from exchange.errors import BlobUnreadable
from exchange.queue import TaskQueue
from exchange.records import Sample, TaskChange
from exchange.upkeep import drop_idle_consumers, prune_tasks, sweep_blobs, unfinished_tasks
from tests.exchange.publishing import publish
from tests.exchange.working import take


@pytest.fixture
def learned(registry):
    """A version is served."""
    publish(registry)


def learn(queue: TaskQueue, name, samples):
    task = queue.submit(name, samples).task
    claim = take(queue)
    queue.update(task.id, TaskChange(state="consolidated"))
    queue.finish(claim)
    return task


def test_old_ended_tasks_are_forgotten_and_unfinished_ones_never(queue, samples, redis):
    old = learn(queue, "old", samples)
    waiting = queue.submit("waiting", samples).task
    take(queue)
    new = learn(queue, "new", samples)
    assert prune_tasks(queue, keep=1) == 1
    assert [task.id for task in queue.newest()] == [new.id, waiting.id]
    assert not redis.exists(queue.keys.task(old.id), queue.keys.events(old.id))


def test_a_forgotten_dead_letter_is_gone_for_good(queue, samples, redis):
    queue.submit("bad", samples)
    queue.fail(take(queue), "no")
    assert prune_tasks(queue, keep=0) == 1
    assert redis.xlen(queue.keys.dead) == 0


@pytest.mark.usefixtures("learned")
def test_images_of_learned_tasks_go_and_all_others_stay(queue, blobs):
    learned, waiting, dead, shared = ([Sample(blobs.put(text), "cat")] for text in (b"1", b"2", b"3", b"4"))
    learn(queue, "learned", learned + shared)
    queue.submit("dead", dead)
    queue.fail(take(queue), "no")
    queue.submit("waiting", waiting + shared)
    assert sweep_blobs(queue) == 0
    time.sleep(0.01)
    assert sweep_blobs(queue, older_than_s=0) == 2
    assert not blobs.exists(learned[0].blob)
    assert all(blobs.exists(sample.blob) for sample in waiting + dead + shared)
    assert take(queue)


@pytest.mark.usefixtures("learned")
@pytest.mark.parametrize("entry", [{"foo": "bar"}, {"task": b"\xff", "samples": b"\xff/.."}])
def test_what_a_stranger_wrote_into_the_stream_keeps_no_sweep_from_its_work(queue, blobs, redis, entry):
    redis.xadd(queue.keys.queue, entry)
    blob = blobs.put(b"old")
    time.sleep(0.01)
    assert sweep_blobs(queue, older_than_s=0) == 1
    assert not blobs.exists(blob)
    assert len(unfinished_tasks(queue)) == 1


@pytest.mark.usefixtures("learned")
def test_what_comes_while_a_sweep_looks_is_kept_however_long_that_takes(queue, samples, blobs, monkeypatch):
    queue.submit("waiting", samples)
    get, late = blobs.get, []

    def taking_hours(name):
        time.sleep(0.01)
        late.append(blobs.put(b"late"))
        time.sleep(0.01)
        return get(name)

    monkeypatch.setattr(blobs, "get", taking_hours)
    sweep_blobs(queue, older_than_s=0)
    assert blobs.exists(late[0])


@pytest.mark.usefixtures("learned")
def test_nothing_is_removed_while_the_disk_does_not_tell_what_a_task_needs(queue, samples, blobs):
    queue.submit("waiting", samples)
    listing = take(queue)
    name = queue.fields(listing.task.id)["samples"]
    path = blobs.root / name[:2] / name[2:]
    hidden = path.rename(path.with_name("away"))
    path.mkdir()
    time.sleep(0.01)
    with pytest.raises(BlobUnreadable):
        sweep_blobs(queue, older_than_s=0)
    path.rmdir()
    hidden.rename(path)
    assert all(blobs.exists(sample.blob) for sample in samples)


@pytest.mark.usefixtures("learned")
def test_images_from_before_redis_lost_its_data_wait_for_a_queue_that_comes_back(
    queue, registry, samples, blobs, redis, monkeypatch
):
    queue.submit("waiting", samples)
    redis.flushdb()
    time.sleep(0.01)
    assert sweep_blobs(queue, older_than_s=0) == 0, "it has not been noticed yet"
    registry.recover()
    time.sleep(0.01)
    blobs.put(b"of a task that came since and was learned")
    time.sleep(0.01)
    assert sweep_blobs(queue, older_than_s=0) == 1
    assert all(blobs.exists(sample.blob) for sample in samples)
    monkeypatch.setattr(upkeep, "SPARED_S", 0)
    assert sweep_blobs(queue, older_than_s=0) == len(samples) + 1, "with the list of them"


def test_workers_that_are_long_gone_are_forgotten_unless_they_hold_a_task(queue, samples, redis):
    assert drop_idle_consumers(queue) == 0
    for name in ("held", "done"):
        queue.submit(name, samples)
    take(queue, "holder")
    queue.finish(take(queue, "gone"))
    assert drop_idle_consumers(queue) == 0
    time.sleep(0.01)
    assert drop_idle_consumers(queue, idle_s=0) == 1
    assert [c["name"] for c in redis.xinfo_consumers(queue.keys.queue, "trainers")] == [b"holder"]
