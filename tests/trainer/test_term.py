"""What a term does between two steps of its work, and what the next makes of one that ended there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from exchange.errors import ExchangeUnavailable
from exchange.records import TaskState
from trainer import term as terms
from trainer.claims import Abandoned
from trainer.data import load_task
from trainer.promotion import Promotion
from trainer.task import Task

from .bench import Bench


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
        term.look_up(pending, built_on, 0.5, {})
        assert before is not None
        bench.registry.activate(before)
        term.looked_up = 0
        with pytest.raises(Abandoned):
            term.look_up(pending, built_on, 0.6, {})
        assert term.claims.pending == (pending,)
        assert set(term.knowledge.serving.labels) == set(second.labels)


def test_a_task_served_by_a_trainer_that_could_not_say_so_is_told_with_its_version(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, update = bench.submit(first), bench.queue.update

    def cut_off(*arguments: Any, **told: Any) -> None:
        if told["state"] is TaskState.SERVED:
            raise ExchangeUnavailable("gone right after a version was published")
        update(*arguments, **told)

    with bench.term() as term:
        with monkeypatch.context() as patch:
            patch.setattr(bench.queue, "update", cut_off)
            with pytest.raises(ExchangeUnavailable):
                term.accept_waiting(block_ms=0)
        [claim] = term.claims.waiting
        bench.queue.release(claim)
    assert bench.queue.get(task).version is None
    with bench.term() as term:
        term.accept_waiting(block_ms=0)
        told = bench.queue.get(task)
        assert (told.state, told.version) == (TaskState.SERVED, bench.registry.current())


def test_held_out_images_are_those_of_the_task_and_no_copies(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(*arguments: Any) -> Task:
        loaded.append(load_task(*arguments))
        return loaded[0]

    monkeypatch.setattr(terms, "load_task", load)
    with bench.term() as term:
        task = bench.submit(first)
        term.accept_waiting(block_ms=0)
        [pending] = term.claims.pending
        held_out = term.upkeep.validation.load(task)
    assert held_out is not None
    assert pending.task.pixels.data_ptr() == loaded[0].pixels.data_ptr()
    kept = len(pending.task.labels)
    assert (kept, len(held_out.labels)) == (33, 3)
    assert torch.equal(held_out.pixels, loaded[0].pixels[kept:])
    images = {
        (image.numpy().tobytes(), label) for image, label in zip(first.pixels, first.labels, strict=True)
    }
    both = (
        *zip(held_out.pixels, held_out.labels, strict=True),
        *zip(pending.task.pixels, pending.task.labels, strict=True),
    )
    assert {(image.numpy().tobytes(), label) for image, label in both} == images
