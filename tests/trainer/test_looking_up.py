"""What arrives while features are taken does not wait for them, and changes nothing of what they are taken for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from exchange.manifests import Manifest
from exchange.records import TaskState
from tests.trainer.bench import Bench
from tests.trainer.conftest import stripes
from trainer import term as terms
from trainer.duties.knowledge import Knowledge
from trainer.intake.claims import Abandoned
from trainer.learning.epochs import TaskTraining
from trainer.learning.learner import Learner
from trainer.learning.task import Task
from trainer.validation import promotion as promotions
from trainer.validation.promotion import Promotion

ALL = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks up before each batch."""
    monkeypatch.setattr(terms, "LOOK_UP_S", 0)


@pytest.fixture
def third() -> Task:
    return stripes("t3", ("fox", "gnu"), seed=2)


def after(monkeypatch: pytest.MonkeyPatch, place: object, name: str, act: Callable[[], object]) -> None:
    """Have something happen once, as soon as a function has returned."""
    function, left = getattr(place, name), [act]

    def acting(*arguments: Any, **more: Any) -> Any:
        result = function(*arguments, **more)
        if left:
            left.pop()()
        return result

    monkeypatch.setattr(place, name, acting)


def before(monkeypatch: pytest.MonkeyPatch, place: object, name: str, act: Callable[[], object]) -> None:
    """Have something happen whenever a function is called."""
    function = getattr(place, name)

    def acting(*arguments: Any, **more: Any) -> Any:
        act()
        return function(*arguments, **more)

    monkeypatch.setattr(place, name, acting)


def served(bench: Bench) -> Manifest:
    current = bench.registry.current()
    assert current is not None
    return bench.registry.shelf.manifest(current)


def test_a_task_does_not_wait_while_the_features_under_new_slots_are_taken(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, states = list[str](), list[TaskState]()
    after(monkeypatch, TaskTraining, "run", lambda: made.append(bench.submit(second)))
    before(monkeypatch, Promotion, "examine", lambda: states.append(bench.queue.get(made[0]).state))
    with bench.term() as term:
        one = bench.submit(first)
        term.accept_waiting(block_ms=0)
        term.consolidation.consolidate(term.claims.pending[0])
        assert [pending.task.id for pending in term.claims.pending] == made
    assert states == [TaskState.SERVED]
    assert (served(bench).consolidated, served(bench).fast) == ((one,), tuple(made))


def test_a_task_does_not_wait_while_new_slots_move_those_that_wait(
    bench: Bench, first: Task, second: Task, third: Task, passed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, before_it, images = list[str](), list[Manifest](), list[int]()
    with bench.term() as term:
        one, two = bench.submit(first), bench.submit(second)
        term.accept_waiting(block_ms=0)
        after(monkeypatch, Promotion, "examine", lambda: made.append(bench.submit(third)))
        before(monkeypatch, Knowledge, "serve_consolidated", lambda: before_it.append(served(bench)))
        before(monkeypatch, Knowledge, "serve_consolidated", lambda: images.append(sum(passed)))
        term.consolidation.consolidate(term.claims.pending[0])
        [fast] = before_it
        assert (fast.consolidated, fast.fast, fast.slots) == ((), (one, two, *made), 0), "on the old base"
        assert set(fast.labels) == set(ALL)
        assert sum(passed) == images[0], "none while what is served is put together"
        assert (served(bench).consolidated, served(bench).fast) == ((one,), (two, *made))
        assert set(served(bench).labels) == set(ALL)
        state, serving = term.knowledge.base.state, term.knowledge.serving
        assert (state.tasks, state.pools.slots) == ((one,), 4)
        fresh = Learner(term.learner.network, term.learner.config)
        again = fresh.learn_all_fast(state, [pending.task for pending in term.claims.pending])
    assert again.labels == serving.labels
    torch.testing.assert_close(again.head.weight, serving.head.weight, rtol=1e-4, atol=1e-4)
    assert serving.moments.counts.tolist() == [11] * 7


def test_what_is_activated_while_new_slots_move_those_that_wait_is_built_on_instead(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench.term() as term:
        empty = term.knowledge.publish({}, consolidated=True)
        one, two = bench.submit(first), bench.submit(second)
        term.accept_waiting(block_ms=0)
        after(monkeypatch, Promotion, "examine", lambda: bench.registry.activate(empty))
        pending = term.claims.pending[0]
        with pytest.raises(Abandoned):
            term.consolidation.consolidate(pending)
        assert term.claims.pending[0] is pending
        assert term.knowledge.base.version == empty
        assert term.knowledge.serving.moments.counts.tolist() == [11] * 5
        term.consolidation.consolidate(pending)
    assert (served(bench).consolidated, served(bench).fast) == ((one,), (two,))


def test_neither_a_task_nor_another_order_is_lost_or_waits_while_one_is_carried_out(
    bench: Bench, first: Task, second: Task, third: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, states = list[str](), list[TaskState]()

    def arrive() -> None:
        made.append(bench.submit(third))
        bench.queue.remove(two)

    with bench.term() as term:
        one, two = bench.submit(first), bench.submit(second)
        term.accept_waiting(block_ms=0)
        for _ in (one, two):
            term.consolidation.consolidate(term.claims.pending[0])
        after(monkeypatch, promotions, "without_slots", arrive)
        before(
            monkeypatch,
            Knowledge,
            "serve_consolidated",
            lambda: states.extend(bench.queue.get(task).state for task in (one, two, *made)),
        )
        bench.queue.remove(one)
        term.accept_waiting(block_ms=0)
        assert set(term.knowledge.serving.labels) == {"fox", "gnu"}
        assert [pending.task.id for pending in term.claims.pending] == made
    assert states[:3] == [TaskState.FORGETTING, TaskState.FORGETTING, TaskState.SERVED]
    assert [bench.queue.get(task).state for task in (one, two)] == [TaskState.FORGOTTEN] * 2
    assert (served(bench).consolidated, served(bench).fast) == ((), tuple(made))
    left = [one.consolidated for one in bench.registry.manifests() if one.kind == "consolidated"]
    assert left[:2] == [(), (two,)], "one order after another, the newest first here"
    assert bench.queue.depth() == 1


def test_a_task_is_taken_out_of_what_is_activated_while_it_is_forgotten(
    bench: Bench, first: Task, second: Task, third: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench.term() as term:
        one, two = bench.submit(first), bench.submit(second)
        term.accept_waiting(block_ms=0)
        term.consolidation.consolidate(term.claims.pending[0])
        known = term.knowledge.base.version
        term.consolidation.consolidate(term.claims.pending[0])
        assert known is not None
        after(
            monkeypatch,
            promotions,
            "without_slots",
            lambda: (bench.registry.activate(known), bench.submit(third)),
        )
        bench.queue.remove(one)
        term.accept_waiting(block_ms=0)
        assert term.knowledge.base.state.tasks == ()
    assert bench.queue.get(one).state is TaskState.FORGOTTEN
    assert bench.queue.get(two).state is TaskState.CONSOLIDATED, "and not in what somebody chose"
    assert set(served(bench).labels) == {"fox", "gnu"}
