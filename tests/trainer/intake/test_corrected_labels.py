"""Corrections that meet an order about their class: each means the class that had the name when it was sent."""

from __future__ import annotations

from typing import Any

import pytest

from exchange.records import Sample, TaskState
from tests.trainer.bench import Bench, carry_out, learn, order
from trainer.learning.task import Task
from trainer.term import Term
from trainer.validation.promotion import Promotion


def correct(bench: Bench, term: Term, task: Task, label: str) -> str:
    """Submit a correction: an image of a task, under some label."""
    pools = term.knowledge.base.state.pools
    [feature] = term.learner.extract(pools, task.pixels[:1])
    sample = Sample(bench.queue.blobs.put(feature.numpy().tobytes()), label, term.learner.space(pools))
    return bench.queue.submit("feedback", [sample]).task.id


def test_corrections_that_wait_are_of_the_class_that_has_the_name_until_then(
    bench: Bench, first: Task
) -> None:
    with bench.term() as term:
        learn(bench, term, first)
        before = correct(bench, term, first, "ant")
        rename = order(bench, "ant", "emu")
        after = correct(bench, term, first, "ant")  # of an answer from before it is renamed
        carry_out(term)
        term.corrections.keep()
        state = term.knowledge.base.state
    assert state.labels == ("emu", "bee", "cow")
    assert state.moments.counts.tolist() == [13, 11, 11]
    assert {bench.queue.get(each).state for each in (before, after)} == {TaskState.CONSOLIDATED}
    assert bench.queue.get(rename).state is TaskState.CONSOLIDATED


def test_corrections_that_never_cease_hold_up_no_order(bench: Bench, first: Task) -> None:
    with bench.term() as term:
        learn(bench, term, first)
        rename = order(bench, "ant", "emu")
        for _ in range(3):
            correct(bench, term, first, "bee")
            term.accept_waiting(block_ms=0)
            if due := term.claims.due:
                term.carry_out(due)
    assert bench.queue.get(rename).state is TaskState.CONSOLIDATED


@pytest.mark.parametrize("becomes", ["emu", "bee", None])
def test_corrections_sent_before_an_order_was_done_bring_no_class_back(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch, becomes: str | None
) -> None:
    change = Promotion.change
    sent: list[str] = []

    def change_late(self: Promotion, *args: Any) -> Any:
        made = change(self, *args)
        sent.append(correct(bench, term, first, "ant"))  # what it is called as long as this is not served
        term.accept_arrivals(block_ms=0)
        sent.append(correct(bench, term, first, "ant"))
        return made

    monkeypatch.setattr(Promotion, "change", change_late)
    with bench.term() as term:
        learn(bench, term, first)
        order(bench, "ant", becomes)
        carry_out(term)
        served = term.knowledge.serving.labels
        term.accept_waiting(block_ms=0)
        term.corrections.keep()
        state = term.knowledge.base.state
    counts = dict(zip(state.labels, state.moments.counts.tolist(), strict=True))
    told = {(record.state, record.error) for record in map(bench.queue.get, sent)}
    assert "ant" not in served
    assert "ant" not in counts
    if becomes is None:
        assert told == {(TaskState.FAILED, "the class 'ant' was forgotten since it was sent")}
        assert counts == {"bee": 11, "cow": 11}
    else:
        assert told == {(TaskState.CONSOLIDATED, None)}
        assert (counts[becomes], counts["cow"]) == (13 if becomes == "emu" else 24, 11)


def test_a_correction_sent_after_an_order_was_done_names_what_is_called_so_by_then(
    bench: Bench, first: Task
) -> None:
    with bench.term() as term:
        learn(bench, term, first)
        order(bench, "ant", "emu")
        carry_out(term)
        order(bench, "bee", "ant")
        carry_out(term)
        correct(bench, term, first, "ant")
        term.accept_waiting(block_ms=0)
        term.corrections.keep()
        state = term.knowledge.base.state
    assert (state.labels, state.moments.counts.tolist()) == (("emu", "ant", "cow"), [11, 12, 11])
