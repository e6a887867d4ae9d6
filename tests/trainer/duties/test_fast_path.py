"""From the queue to a first answer: what of a task is learned, what is held out, and what is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from exchange.errors import ExchangeUnavailable
from exchange.records import Claim, TaskChange, TaskState
from tests.trainer.bench import Bench
from trainer.duties import fast_path
from trainer.intake.images import load_task
from trainer.learning.task import Task


def test_a_task_served_by_a_trainer_that_could_not_say_so_is_told_with_its_version(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, report = bench.submit(first), bench.queue.report

    def cut_off(claim: Claim, change: TaskChange) -> None:
        if change.state is TaskState.SERVED:
            raise ExchangeUnavailable("gone right after a version was published")
        report(claim, change)

    with bench.term() as term:
        with monkeypatch.context() as patch:
            patch.setattr(bench.queue, "report", cut_off)
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

    monkeypatch.setattr(fast_path, "load_task", load)
    with bench.term() as term:
        task = bench.submit(first)
        term.accept_waiting(block_ms=0)
        [pending] = term.claims.pending
        held_out = term.fast_path.validation.load(task)
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
