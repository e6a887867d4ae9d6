"""What is said of a task that cannot be taken out of what is served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exchange.records import Sample, TaskState
from tests.trainer.bench import FAST, Bench
from tests.trainer.conftest import stripes
from trainer.duties.withdrawal import remainder
from trainer.learning.task import Task


def test_a_correction_of_long_ago_that_stays_is_not_said_to_be_forgotten(bench: Bench, first: Task) -> None:
    made = []
    with bench.term() as term:
        bench.submit(first)
        term.accept_waiting(block_ms=0)
        term.consolidation.consolidate(term.claims.pending[0])
        pools = term.knowledge.base.state.pools
        [feature] = term.learner.extract(pools, first.pixels[:1])
        blob = bench.queue.blobs.put(feature.numpy().tobytes())
        sample = Sample(blob, first.labels[0], term.learner.space(pools))
        knowledge = term.knowledge
        for _ in range(2):
            made.append(bench.queue.submit("feedback", [sample]).task.id)
            term.accept_waiting(block_ms=0)
            term.corrections.keep()
            between = map(str, range(1000))
            aged = replace(knowledge.base.state, corrected=(*knowledge.base.state.corrected, *between))
            knowledge.base = replace(knowledge.base, state=aged)
        bench.queue.remove(made[0])
        term.accept_waiting(block_ms=0)
    stays = bench.queue.get(made[0])
    assert stays.state is TaskState.CONSOLIDATED
    assert "not forgotten: a correction of a known label" in str(stays.error)


def test_a_correction_whose_order_is_delivered_twice_is_forgotten(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with bench.term() as term:
        bench.submit(first)
        term.accept_waiting(block_ms=0)
        term.consolidation.consolidate(term.claims.pending[0])
        pools = term.knowledge.base.state.pools
        [feature] = term.learner.extract(pools, first.pixels[:1])
        blob = bench.queue.blobs.put(feature.numpy().tobytes())
        sample = Sample(blob, "zebra", term.learner.space(pools))
        made = bench.queue.submit("feedback", [sample]).task.id
        term.accept_waiting(block_ms=0)
        term.corrections.keep()
        assert "zebra" in term.knowledge.base.state.labels
        bench.queue.remove(made)
        with monkeypatch.context() as patch:
            patch.setattr(bench.queue, "report", killed)  # once a version without it is published
            with pytest.raises(KeyboardInterrupt):
                term.accept_waiting(block_ms=0)
    with bench.term() as term:
        assert "zebra" not in term.knowledge.base.state.labels
        term.accept_waiting(block_ms=0)
    told = bench.queue.get(made)
    assert (told.state, told.error) == (TaskState.FORGOTTEN, None)


def test_a_forgotten_task_says_which_of_its_images_still_count(bench: Bench, first: Task) -> None:
    with bench.trainer(FAST):
        one, two = bench.submit(first), bench.submit(stripes("t2", ("ant", "bee", "dog"), seed=3))
        for task in (one, two):
            bench.wait_for(task, TaskState.CONSOLIDATED)
        bench.queue.remove(two)
        told = bench.wait_for(two, TaskState.FORGOTTEN)
        assert told.error is not None
        assert told.error.startswith(
            "its images of ant, bee still count, since other tasks taught these classes"
        )
        assert told.error.endswith("classes that are forgotten and taught again")
        bench.queue.remove(one)
        assert bench.wait_for(one, TaskState.FORGOTTEN).error is None, "nobody else teaches them now"
    assert "a, b, c, d, e and 3 more" in str(remainder("abcdefgh"))
