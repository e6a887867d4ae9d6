"""What a term does between two steps of its work, and what the next makes of one that ended there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exchange.records import TaskRecord, TaskState
from tests.trainer.bench import Bench
from tests.trainer.conftest import stripes
from trainer import term as terms
from trainer.duties import fast_path
from trainer.intake.claims import Abandoned
from trainer.intake.images import load_task
from trainer.learning.task import Task
from trainer.validation.promotion import Promotion


def test_a_task_does_not_wait_while_the_one_before_it_is_measured(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine, arrived = Promotion.examine, []

    def arriving(self: Promotion, *arguments: Any) -> Any:
        task = bench.submit(second)
        result = examine(self, *arguments)
        arrived.append(bench.queue.get(task).state)
        return result

    monkeypatch.setattr(terms, "LOOK_UP_S", 0)
    monkeypatch.setattr(Promotion, "examine", arriving)
    with bench.term() as term:
        one = bench.submit(first)
        term.accept_waiting(block_ms=0)
        term.consolidation.consolidate(term.claims.pending[0])
    assert arrived == [TaskState.SERVED]
    assert bench.queue.get(one).state is TaskState.CONSOLIDATED
    assert bench.queue.get(one).progress == 1


def test_training_on_what_is_no_longer_served_is_abandoned_though_nothing_else_arrives(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.term() as term:
        bench.submit(first)
        term.accept_waiting(block_ms=0)
        before = term.knowledge.base.version
        term.consolidation.consolidate(term.claims.pending[0])
        bench.submit(second)
        term.accept_waiting(block_ms=0)
        [pending] = term.claims.pending
        built_on = term.knowledge.base.state
        term.look_up(pending, built_on, 0.5)
        assert before is not None
        bench.registry.activate(before)
        term.looked_up = 0
        with pytest.raises(Abandoned):
            term.look_up(pending, built_on)
        assert term.claims.pending == (pending,)
        assert set(term.knowledge.serving.labels) == set(second.labels)


def test_what_a_trainer_had_served_is_never_missing_after_another_took_over(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.term() as term:  # and ends with nothing given back, as in a crash
        for task in (first, second):
            bench.submit(task)
            term.accept_waiting(block_ms=0)
        before = bench.registry.current()
    new = bench.submit(stripes("t3", ("fox", "gnu"), seed=2))
    with bench.term() as term:
        term.accept_waiting(block_ms=0)
        assert [pending.task.id for pending in term.claims.pending][-1] == new
        term.consolidation.consolidate(term.claims.pending[0])
    assert before is not None
    known = set(bench.registry.shelf.manifest(before).labels)
    later = [manifest for manifest in bench.registry.manifests() if manifest.version > before]
    assert len(later) == 2, "a fast version of the new task, a consolidated one of the oldest"
    assert all(known | {"fox", "gnu"} == set(manifest.labels) for manifest in later)


def test_a_task_in_training_is_not_to_blame_for_those_that_arrive_and_kill_its_trainer(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine, arrived, loaded = Promotion.examine, list[str](), set[str]()

    def arriving(self: Promotion, *arguments: Any) -> Any:
        if len(arrived) <= bench.queue.config.max_deaths:
            arrived.append(bench.submit(replace(second, id="heavy")))
        return examine(self, *arguments)

    def load(task: TaskRecord, *rest: Any) -> Task:
        if task.name == "heavy" and task.id not in loaded:
            loaded.add(task.id)
            raise MemoryError("too large")
        return load_task(task, *rest)

    monkeypatch.setattr(terms, "LOOK_UP_S", 0)
    monkeypatch.setattr(Promotion, "examine", arriving)
    monkeypatch.setattr(fast_path, "load_task", load)
    innocent = bench.submit(first)
    for _ in range(bench.queue.config.max_deaths + 1):
        with bench.term() as term:
            term.accept_waiting(block_ms=0)
            [pending, *_] = term.claims.pending
            with pytest.raises(MemoryError):
                term.consolidation.consolidate(pending)
        assert bench.queue.get(arrived[-1]).error == "MemoryError: too large"
        assert bench.queue.get(innocent).error is None
    with bench.term() as term:
        term.accept_waiting(block_ms=0)
        term.consolidation.consolidate(term.claims.pending[0])
    assert bench.queue.get(innocent).state is TaskState.CONSOLIDATED
    assert {bench.queue.get(task).state for task in arrived} == {TaskState.SERVED}
