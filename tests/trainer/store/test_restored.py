"""What is left of tasks when a store is unpacked beside an empty Redis."""

from __future__ import annotations

import pytest

from exchange.errors import ExchangeUnavailable
from exchange.records import TaskState
from exchange.upkeep import prune_tasks
from tests.service.support import wait_for
from tests.trainer.bench import Bench, carry_out, learn, order
from tests.trainer.conftest import stripes
from trainer.learning.task import Task
from trainer.store.restored import restore_records


def learned(bench: Bench, *tasks: Task) -> list[str]:
    """Ids of tasks that were learned before Redis was lost."""
    with bench.trainer():
        made = [bench.submit(task) for task in tasks]
        for task in made:
            bench.wait_for(task, TaskState.CONSOLIDATED)
    bench.queue.redis.flushdb()
    return made


def test_what_was_learned_is_listed_and_can_be_forgotten_after_redis_was_lost(
    bench: Bench, first: Task, second: Task
) -> None:
    one, two = learned(bench, first, second)
    with bench.trainer():
        wait_for(lambda: len(bench.queue.newest()) == 2)
        listed, older = bench.queue.newest()
        assert (listed.id, older.id) == (two, one)
        manifest = bench.consolidated()
        assert manifest is not None
        assert (listed.labels, listed.images, listed.state) == (("dog", "elk"), 24, TaskState.CONSOLIDATED)
        assert listed.version == manifest.version
        assert listed.created_at == pytest.approx(manifest.created_at, abs=1e-3)
        bench.queue.remove(one)
        bench.wait_for(one, TaskState.FORGOTTEN)
    assert set(bench.state().labels) == set(second.labels)


def test_records_half_restored_are_completed_and_none_is_made_twice(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = learned(bench, first, second)
    bench.registry.recover()

    def once(*arguments: object) -> None:
        adopt(*arguments)
        raise ExchangeUnavailable("gone after the first record")

    with bench.term() as term:
        base = term.knowledge.base
        with monkeypatch.context() as patch:
            adopt = bench.queue.adopt
            patch.setattr(bench.queue, "adopt", once)
            with pytest.raises(ExchangeUnavailable):
                restore_records(bench.queue, bench.registry, base, 10)
        assert [task.id for task in bench.queue.newest()] == [one]
        for _ in range(2):
            restore_records(bench.queue, bench.registry, base, 10)
            assert [task.id for task in bench.queue.newest()] == [two, one]
            assert len(bench.queue.events(one)) == 1


def test_no_more_records_are_restored_than_are_kept(bench: Bench, first: Task, second: Task) -> None:
    _, two = learned(bench, first, second)
    bench.registry.recover()
    with bench.term() as term:
        restore_records(bench.queue, bench.registry, term.knowledge.base, 1)
    assert [task.id for task in bench.queue.newest()] == [two]


def test_records_that_were_dropped_for_newer_ones_are_not_restored(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.term() as term:
        for task in (first, second):
            learn(bench, term, task)
        orders = [order(bench, "ant", "emu"), order(bench, "bee", "gnu")]
        carry_out(term)
        assert prune_tasks(bench.queue, 2) == 2
        restore_records(bench.queue, bench.registry, term.knowledge.base, 2)
    assert [task.id for task in bench.queue.newest()] == orders[::-1]


def test_what_was_learned_since_the_copy_of_a_restored_redis_stays(
    bench: Bench, first: Task, second: Task
) -> None:
    redis = bench.queue.redis
    with bench.trainer():
        bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
    kept = {key: redis.dump(key) for key in redis.scan_iter()}
    with bench.trainer():
        newer = bench.wait_for(bench.submit(second), TaskState.CONSOLIDATED)
    redis.flushdb()
    for key, value in kept.items():
        redis.restore(key, 0, value)  # type: ignore[arg-type]
    with bench.trainer():
        third = bench.wait_for(bench.submit(stripes("t3", ("fox", "gnu"), seed=2)), TaskState.CONSOLIDATED)
    assert newer.version is not None
    assert newer.version in [manifest.version for manifest in bench.registry.manifests()]
    bench.registry.activate(newer.version)
    with bench.trainer():
        bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
    assert newer.id in bench.state().tasks
    assert third.id not in bench.state().tasks
