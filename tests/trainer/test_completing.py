"""Tasks that arrive at once: each is served in part before the rest of any is learned."""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod

import pytest

from exchange.errors import LeaseLost
from exchange.records import Claim, Sample, TaskState
from tests.trainer.bench import Bench
from tests.trainer.conftest import stripes
from trainer import term as terms
from trainer.duties.fast_path import FastPath
from trainer.duties.knowledge import Knowledge
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task

FIRST = ("ant", "bee", "cow")
BOTH = (*FIRST, "dog", "elk")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each task the first batch is served first, and arrivals are looked for before each other one."""
    monkeypatch.setattr(Learner, "begun", partialmethod(Learner.begun, patience_s=0.0))
    monkeypatch.setattr(terms, "LOOK_UP_S", 0)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a version takes so long that all tasks that wait come together."""
    monkeypatch.setattr(FastPath, "due", False)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """Of each state that is served fast, how many images of each class it knows."""
    states: list[dict[str, int]] = []
    serve = Knowledge.serve_fast

    def noted(self: Knowledge, state: LearnerState) -> int:
        states.append(dict(zip(state.labels, map(int, state.moments.counts.tolist()), strict=True)))
        return serve(self, state)

    monkeypatch.setattr(Knowledge, "serve_fast", noted)
    return states


def before_completing(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have something happen once, as soon as the rest of a task is to be learned."""
    complete, left = FastPath.complete, [act]

    def acting(self: FastPath, *arguments: object) -> None:
        if left:
            left.pop()()
        complete(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FastPath, "complete", acting)


@pytest.mark.usefixtures("apart")
def test_every_task_that_waits_is_served_in_part_before_the_rest_of_any_is_learned(
    bench: Bench, first: Task, second: Task, served: list[dict[str, int]]
) -> None:
    with bench.term() as term:
        tasks = bench.submit(first), bench.submit(second)
        term.accept_waiting(block_ms=0)
        assert term.claims.unfinished is None
        assert [bench.queue.get(task).state for task in tasks] == [TaskState.SERVED] * 2
    assert [tuple(state) for state in served] == [FIRST, BOTH, BOTH, BOTH]
    shares = [sum(state.values()) for state in served]
    assert shares[1] == 2 * shares[0] == 16
    assert served[2] == {**served[1], **dict.fromkeys(FIRST, 11)}
    assert served[3] == dict.fromkeys(BOTH, 11)


@pytest.mark.usefixtures("apart")
def test_a_task_that_arrives_while_another_is_completed_does_not_wait_for_it(
    bench: Bench, first: Task, second: Task, served: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before_completing(monkeypatch, lambda: bench.submit(second))
    with bench.term() as term:
        bench.submit(first)
        term.accept_waiting(block_ms=0)
    assert [tuple(state) for state in served] == [FIRST, BOTH, BOTH, BOTH]
    assert served[1].items() > served[0].items(), "the rest of the first was not learned yet"
    assert served[3] == dict.fromkeys(BOTH, 11)


@pytest.mark.usefixtures("apart")
def test_a_task_that_is_taken_back_while_it_is_completed_leaves_nothing(
    bench: Bench, first: Task, second: Task, served: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench.term() as term:
        one, _ = bench.submit(first), bench.submit(second)
        before_completing(monkeypatch, lambda: bench.queue.remove(one))
        term.accept_waiting(block_ms=0)
        assert bench.queue.get(one).state is TaskState.FORGOTTEN
        assert set(term.knowledge.serving.labels) == set(second.labels)
    assert served[-1] == {"dog": 11, "elk": 11}
    assert len(served) == 3, "no rest of the first"


def test_a_task_whose_trainer_ends_after_a_part_of_it_was_served_is_learned_as_a_whole(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end() -> None:
        raise LeaseLost("another trainer has taken over")

    with bench.term() as term, monkeypatch.context() as patch:
        before_completing(patch, end)
        tasks = bench.submit(first), bench.submit(second)
        with pytest.raises(LeaseLost):
            term.accept_waiting(block_ms=0)
        for claim in term.claims.waiting:
            bench.queue.release(claim)
    with bench.trainer():
        for task in tasks:
            bench.wait_for(task, TaskState.CONSOLIDATED)
    state = bench.state()
    assert dict(zip(state.labels, state.moments.counts.tolist(), strict=True)) == dict.fromkeys(BOTH, 11)


@pytest.mark.usefixtures("apart")
def test_a_task_that_repeats_one_served_in_part_counts_no_image_twice(
    bench: Bench, first: Task, served: list[dict[str, int]]
) -> None:
    with bench.term() as term:
        bench.submit(first), bench.submit(first)
        term.accept_waiting(block_ms=0)
        assert term.claims.unfinished is None
    assert served[-1] == dict.fromkeys(FIRST, 11)


@pytest.mark.usefixtures("together")
def test_tasks_that_come_faster_than_versions_are_made_are_served_with_one(
    bench: Bench, first: Task, second: Task, served: list[dict[str, int]], solved: list[int]
) -> None:
    third = stripes("t3", ("fox", "gnu"), seed=2)
    with bench.term() as term:
        tasks = [bench.submit(task) for task in (first, second, third)]
        term.accept_waiting(block_ms=0)
        assert [bench.queue.get(task).state for task in tasks] == [TaskState.SERVED] * 3
        whole = bench.registry.current()
        assert [bench.queue.get(task).version for task in tasks] == [whole] * 3
        assert whole is not None
        assert bench.registry.shelf.manifest(whole).fast == tuple(tasks)
    assert [sum(state.values()) for state in served] == [3 * 8, 7 * 11]
    assert solved == [7, 7]


@pytest.mark.usefixtures("together")
def test_images_that_come_twice_before_they_are_served_count_once(
    bench: Bench, first: Task, served: list[dict[str, int]]
) -> None:
    with bench.term() as term:
        one, two = bench.submit(first), bench.submit(first)
        term.accept_waiting(block_ms=0)
        assert [bench.queue.get(task).state for task in (one, two)] == [TaskState.SERVED] * 2
    assert served[-1] == dict.fromkeys(FIRST, 11)


@pytest.mark.usefixtures("together")
def test_a_task_that_is_taken_back_before_it_is_served_is_never_served(
    bench: Bench, first: Task, second: Task, served: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = FastPath.accept
    with bench.term() as term:
        one, two = bench.submit(first), bench.submit(second)

        def taken_back(self: FastPath, claim: Claim) -> None:
            accept(self, claim)
            if claim.task.id == two:
                bench.queue.remove(one)

        monkeypatch.setattr(FastPath, "accept", taken_back)
        term.accept_waiting(block_ms=0)
        assert set(term.knowledge.serving.labels) == set(second.labels)
    assert bench.queue.get(one).state is TaskState.FORGOTTEN
    assert served[-1] == {"dog": 11, "elk": 11}


@pytest.mark.usefixtures("together")
def test_tasks_whose_trainer_ends_before_they_are_served_are_learned_by_the_next(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise LeaseLost("another trainer has taken over")

    with bench.term() as term, monkeypatch.context() as patch:
        patch.setattr(FastPath, "serve", end)
        tasks = bench.submit(first), bench.submit(second)
        with pytest.raises(LeaseLost):
            term.accept_waiting(block_ms=0)
        assert bench.registry.current() is None
        for claim in term.claims.waiting:
            bench.queue.release(claim)
    with bench.trainer():
        for task in tasks:
            bench.wait_for(task, TaskState.CONSOLIDATED)
    state = bench.state()
    assert dict(zip(state.labels, state.moments.counts.tolist(), strict=True)) == dict.fromkeys(BOTH, 11)


@pytest.mark.usefixtures("together")
def test_a_correction_comes_after_the_tasks_that_were_taken_up_before_it(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.term() as term:
        bench.submit(first)
        term.accept_waiting(block_ms=0)
        pools = term.knowledge.base.state.pools
        [feature] = term.learner.extract(pools, first.pixels[:1])
        blob = bench.queue.blobs.put(feature.numpy().tobytes())
        two = bench.submit(second)
        label = bench.queue.submit("feedback", [Sample(blob, "ant", term.learner.space(pools))]).task.id
        term.accept_waiting(block_ms=0)
        assert dict(zip(BOTH, term.knowledge.serving.moments.counts.tolist(), strict=True)) == {
            **dict.fromkeys(BOTH, 11),
            "ant": 12,
        }
        for task in (two, label):
            assert bench.queue.get(task).state is TaskState.SERVED
