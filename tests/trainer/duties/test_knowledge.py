"""What a trainer builds on, and what it serves on top."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from exchange.errors import ExchangeUnavailable, PointerMoved
from exchange.records import TaskState
from model.pools import Pools
from tests.trainer.bench import Bench
from tests.trainer.conftest import correction
from trainer.intake.claims import Claims
from trainer.learning.learner import Learner
from trainer.learning.task import Task


def test_pools_are_hashed_as_often_for_many_corrections_as_for_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, hashed = Learner.space, []

    def counted(self: Learner, pools: Pools) -> str:
        hashed.append(pools)
        return space(self, pools)

    with bench.term() as term:
        learner, state = term.learner, term.knowledge.base.state
        one = correction(learner, state, torch.eye(learner.network.backbone.width)[:1], "ant")
        monkeypatch.setattr(Learner, "space", counted)
        for corrections, times in (([], 0), ([one], 1), ([one] * 9, 1)):
            hashed.clear()
            assert term.knowledge.followed(state, corrections) == corrections
            assert len(hashed) == times


def crash_before_acknowledging(bench: Bench, task: Task, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """A task that a version knows for good and the queue delivers again, and that version, which is rolled back."""
    with bench.term() as term, monkeypatch.context() as patch:
        before = term.knowledge.publish({}, consolidated=True)
        id_ = bench.submit(task)
        term.accept_waiting(block_ms=0)
        [pending] = term.claims.pending
        patch.setattr(Claims, "finish", lost)
        with pytest.raises(ExchangeUnavailable):
            term.consolidation.consolidate(pending)
        bench.queue.release(pending.claim)
    known = bench.registry.current()
    assert known is not None
    bench.registry.activate(before)
    return id_, known


def lost(*_: object) -> None:
    raise ExchangeUnavailable("Redis went away")


def test_a_task_delivered_again_after_it_was_learned_ends_with_the_figures_it_had(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, known = crash_before_acknowledging(bench, first, monkeypatch)
    bench.registry.activate(known)
    with bench.term() as term:
        term.accept_waiting(block_ms=0)
        assert not term.claims.pending
        assert term.knowledge.serving.moments.counts.tolist() == [11] * 3
    record = bench.queue.get(task)
    assert (record.state, record.version) == (TaskState.CONSOLIDATED, known)
    assert "seconds_to_fast" in record.metrics
    assert bench.queue.depth() == 0


def test_a_task_that_waits_ends_when_a_version_is_activated_that_knows_it(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, known = crash_before_acknowledging(bench, first, monkeypatch)
    with bench.term() as term:
        term.accept_waiting(block_ms=0)
        assert term.claims.pending
        bench.registry.activate(known)
        term.knowledge.catch_up()
        assert not term.claims.pending
        assert term.knowledge.serving.moments.counts.tolist() == [11] * 3
    assert bench.queue.get(task).state is TaskState.CONSOLIDATED
    assert bench.queue.depth() == 0


def test_a_task_ends_when_such_a_version_is_activated_while_it_is_learned_fast(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, known = crash_before_acknowledging(bench, first, monkeypatch)
    learn: Callable[..., Any] = Learner.learn_all_fast

    def activating(*arguments: Any, **more: Any) -> Any:
        bench.registry.activate(known)
        return learn(*arguments, **more)

    monkeypatch.setattr(Learner, "learn_all_fast", activating)
    with bench.term() as term:
        term.accept_waiting(block_ms=0)
        assert not term.claims.pending
        assert term.knowledge.serving.moments.counts.tolist() == [11] * 3
    assert bench.queue.get(task).state is TaskState.CONSOLIDATED
    assert bench.queue.depth() == 0


def test_what_a_version_takes_in_waits_until_it_is_acknowledged_and_is_not_on_top(
    bench: Bench, first: Task, second: Task
) -> None:
    one, two = bench.submit(first), bench.submit(second)
    with bench.term() as term:
        term.accept_waiting(block_ms=0)
        knowledge, waiting = term.knowledge, term.claims.pending
        fast = knowledge.base.version
        state = term.learner.consolidate_head(knowledge.base.state, waiting[0].task)
        served = bench.registry.shelf.manifest(knowledge.serve_consolidated(state, {}, taken={one}))
        assert (served.consolidated, served.fast) == ((one,), (two,))
        assert knowledge.serving.moments.counts.tolist() == [11] * 5, "neither is in it twice"
        assert term.claims.pending == waiting
        assert fast is not None
        bench.registry.activate(fast)
        with pytest.raises(PointerMoved):
            knowledge.serve_consolidated(state, {}, taken={one})
        assert term.claims.pending == waiting


def test_what_waits_no_more_leaves_what_is_served_unless_it_became_part_of_the_base(
    bench: Bench, first: Task, second: Task
) -> None:
    one, _ = bench.submit(first), bench.submit(second)
    with bench.term() as term:
        term.accept_waiting(block_ms=0)
        knowledge, (learned, other) = term.knowledge, term.claims.pending
        knowledge.serve_consolidated(
            term.learner.consolidate_head(knowledge.base.state, learned.task), {}, taken={one}
        )
        both = knowledge.serving
        term.claims.acknowledge(learned.claim)
        knowledge.catch_up()
        assert knowledge.serving is both
        term.claims.acknowledge(other.claim)
        knowledge.catch_up()
        assert set(knowledge.serving.labels) == set(first.labels)


def test_what_was_learned_stays_where_redis_forgets_which_version_is_served(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.term() as term:
        for task in (first, second):
            bench.submit(task)
            term.accept_waiting(block_ms=0)
            term.consolidation.consolidate(term.claims.pending[0])
            bench.queue.redis.delete(bench.registry.keys.pointer)
        term.knowledge.catch_up()
        assert set(term.knowledge.serving.labels) == {*first.labels, *second.labels}
        assert bench.registry.current() == term.knowledge.base.version
