"""What befalls corrections when a trainer dies: at a task that comes along with them, or at themselves."""

from __future__ import annotations

from typing import Any

import pytest

from exchange.records import Sample, TaskState
from tests.trainer.bench import Bench
from trainer import term as terms
from trainer.duties import corrections, fast_path
from trainer.learning.task import Task
from trainer.term import Term
from trainer.validation.promotion import Promotion


def learn(bench: Bench, term: Term, task: Task) -> str:
    """Have a task learned for good; its id."""
    made = bench.submit(task)
    term.accept_waiting(block_ms=0)
    term.consolidation.consolidate(term.claims.pending[0])
    return made


def correct(bench: Bench, term: Term, task: Task) -> str:
    """Submit a correction: an image of a task, under the label that it has there."""
    pools = term.knowledge.base.state.pools
    [feature] = term.learner.extract(pools, task.pixels[:1])
    sample = Sample(
        bench.queue.blobs.put(feature.numpy().tobytes()), task.labels[0], term.learner.space(pools)
    )
    return bench.queue.submit("feedback", [sample]).task.id


def test_a_correction_does_not_die_with_a_task_that_kills_the_trainer(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> Task:
        raise MemoryError("too large")

    with bench.term() as term:
        learn(bench, term, first)
        corrected = correct(bench, term, first)
    heavy = bench.submit(second)
    with monkeypatch.context() as patch:
        patch.setattr(fast_path, "load_task", load)
        for _ in range(bench.queue.config.max_deaths):
            with bench.term() as term, pytest.raises(MemoryError):
                term.accept_waiting(block_ms=0)
    with bench.term() as term:
        term.accept_waiting(block_ms=0)
        term.corrections.keep()
    assert bench.queue.get(heavy).state is TaskState.FAILED
    told = bench.queue.get(corrected)
    assert (told.state, told.error) == (TaskState.CONSOLIDATED, None)


def test_corrections_that_kill_the_trainer_take_no_task_with_them(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine, made = Promotion.examine, list[str]()

    def arriving(self: Promotion, *arguments: Any) -> Any:
        if not made:
            made.append(correct(bench, term, first))
        return examine(self, *arguments)

    def damaged(*_: object) -> Any:
        raise ZeroDivisionError("damaged")

    monkeypatch.setattr(terms, "LOOK_UP_S", 0)
    with bench.term() as term:
        learn(bench, term, first)
        task = bench.submit(second)
        term.accept_waiting(block_ms=0)
        monkeypatch.setattr(Promotion, "examine", arriving)
        with monkeypatch.context() as patch:
            patch.setattr(corrections, "correct", damaged)
            with pytest.raises(ZeroDivisionError):
                term.consolidation.consolidate(term.claims.pending[0])
    assert [bench.queue.get(one).error for one in (made[0], task)] == ["ZeroDivisionError: damaged", None]
    assert list(bench.queue.redis.hgetall(bench.queue.keys.working)) == [made[0].encode()]
