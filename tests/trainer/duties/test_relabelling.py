"""Orders to rename and forget classes: carried out in their turn, once, whatever happens meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exchange.errors import ExchangeUnavailable, OrderGiven
from exchange.records import TaskState
from tests.trainer.bench import FAST, SLOW, Bench, carry_out, learn, order
from tests.trainer.conftest import stripes
from trainer.intake.claims import Claims
from trainer.learning.task import Task
from trainer.store.validation_shelf import ValidationShelf
from trainer.validation.promotion import Promotion


def killed(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


def test_classes_are_renamed_merged_and_forgotten_by_a_running_trainer(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.trainer(FAST):
        one, two = bench.submit(first), bench.submit(second)
        for task in (one, two):
            bench.wait_for(task, TaskState.CONSOLIDATED)
        orders = [order(bench, "ant", "emu"), order(bench, "bee", "dog"), order(bench, "cow")]
        done = [bench.wait_for(each, TaskState.CONSOLIDATED) for each in orders]
    manifests = [bench.registry.manifest(record.version) for record in done if record.version is not None]
    assert [manifest.labels for manifest in manifests] == [
        ("emu", "bee", "cow", "dog", "elk"),
        ("emu", "cow", "dog", "elk"),
        ("emu", "dog", "elk"),
    ]
    last = manifests[-1]
    assert (last.version, last.kind) == (bench.registry.current(), "consolidated")
    assert (last.consolidated, last.images) == ((one, two), (11, 22, 11))
    assert last.taught == {one: (0, 1), two: (1, 2)}
    assert {"accuracy", f"accuracy.{one}", f"accuracy.{two}"} <= last.metrics.keys()
    assert [(record.error, record.progress) for record in done] == [(None, 1.0)] * 3
    assert {"accuracy", "forgetting", "held_out_images"} <= done[-1].metrics.keys()
    assert bench.queue.depth() == 0


def test_an_order_waits_for_the_tasks_sent_before_it_and_for_none_sent_after(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.term() as term:
        learn(bench, term, first)
        before = bench.submit(replace(stripes("before", ("ant", "dog"), seed=3)))
        forget = order(bench, "ant")
        after = bench.submit(stripes("after", ("ant", "elk"), seed=4))
        term.accept_waiting(block_ms=0)
        assert term.claims.due is None
        assert {bench.queue.get(task).state for task in (before, after)} == {TaskState.SERVED}
        assert bench.queue.get(forget).state is TaskState.QUEUED
        term.consolidation.consolidate(term.claims.pending[0])
        carry_out(term)
        record = bench.queue.get(forget)
        assert record.state is TaskState.CONSOLIDATED
        assert record.version is not None
        manifest = bench.registry.manifest(record.version)
        assert (manifest.labels, manifest.fast) == (("bee", "cow", "dog", "ant", "elk"), (after,))
        assert manifest.taught is not None
        assert manifest.taught[after] == (3, 4), "as far as the head knows"
        assert term.knowledge.base.state.labels == ("bee", "cow", "dog")
        known = dict(zip(manifest.labels, manifest.images or (), strict=True))
        assert known["ant"] < 12, "those that were sent after it, alone"
        term.consolidation.consolidate(term.claims.pending[0])
    state = bench.state()
    assert set(state.labels) == {"bee", "cow", "dog", "ant", "elk"}
    assert state.taught[before] == ("dog",)
    assert state.taught[after] == ("ant", "elk")


def test_the_same_images_teach_a_class_anew_after_it_was_forgotten(bench: Bench, first: Task) -> None:
    with bench.term() as term:
        learn(bench, term, first)
        order(bench, "ant")
        again = bench.submit(replace(first, id="again"))
        carry_out(term)
        assert term.knowledge.base.state.labels == ("bee", "cow")
        term.consolidation.consolidate(term.claims.pending[0])
        state = term.knowledge.base.state
    assert state.labels == ("bee", "cow", "ant")
    assert len(state.seen.images["ant"]) > 0
    assert bench.queue.get(again).state is TaskState.CONSOLIDATED


def test_an_order_that_was_published_cannot_be_cancelled_although_its_trainer_gave_it_back(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ExchangeUnavailable("gone before the order was acknowledged")

    with bench.term() as term:
        learn(bench, term, first)
        rename = order(bench, "ant", "emu")
        with monkeypatch.context() as patch:
            patch.setattr(Claims, "finish", away)
            with pytest.raises(ExchangeUnavailable):
                carry_out(term)
        term.claims.give_back()
    with pytest.raises(OrderGiven):
        bench.queue.remove(rename)
    with bench.term() as term:
        carry_out(term)
    assert bench.queue.get(rename).state is TaskState.CONSOLIDATED


def test_an_order_that_was_published_and_not_acknowledged_is_not_carried_out_again(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench.term() as term:
        learn(bench, term, first)
        rename, forget = order(bench, "ant", "bee"), order(bench, "cow")
        with monkeypatch.context() as patch:
            patch.setattr(Claims, "finish", killed)
            for _ in range(2):
                with pytest.raises(KeyboardInterrupt):
                    carry_out(term)
        served = bench.registry.current()
        bench.submit(stripes("after", ("ant", "elk"), seed=4))
    assert bench.queue.get(rename).state is TaskState.LEARNING
    with bench.term() as term:
        carry_out(term)
        state = term.knowledge.base.state
    assert state.labels == ("bee",)
    assert state.changed == (rename, forget)
    assert state.moments.counts.tolist() == [22]
    for done in (rename, forget):
        record = bench.queue.get(done)
        assert (record.state, record.error) == (TaskState.CONSOLIDATED, None)
        assert record.version is not None
        assert record.version >= served  # type: ignore[operator]


def test_no_class_is_renamed_that_is_gone_by_then_and_it_says_so(bench: Bench, first: Task) -> None:
    with bench.term() as term:
        learn(bench, term, first)
        orders = [order(bench, *change) for change in (("ant", "emu"), ("ant", "gnu"), ("emu",), ("emu",))]
        carry_out(term)
        before = bench.registry.current()
        records = [bench.queue.get(each) for each in orders]
        assert [record.state for record in records] == [
            "consolidated",
            "failed",
            "consolidated",
            "consolidated",
        ]
        assert records[1].error == "no class is called 'ant' any more"
        assert [record.version for record in records[2:]] == [before] * 2, "what is gone is forgotten already"
    assert bench.registry.current() == before
    assert bench.state().labels == ("bee", "cow")


def test_an_order_that_is_cancelled_while_a_trainer_holds_it_is_not_carried_out(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.term() as term:
        learn(bench, term, first)
        bench.submit(second)
        forget = order(bench, "ant")
        term.accept_waiting(block_ms=0)
        assert bench.queue.remove(forget).state is TaskState.CANCELLED
        term.consolidation.consolidate(term.claims.pending[0])
        carry_out(term)
        assert term.claims.orders == ()
    assert bench.state().labels == ("ant", "bee", "cow", "dog", "elk")
    assert bench.queue.get(forget).state is TaskState.CANCELLED
    assert bench.queue.depth() == 0


def test_an_order_is_carried_out_on_the_version_that_somebody_activates_meanwhile(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = Promotion.change

    def activating(self: Promotion, *arguments: Any) -> Any:
        if bench.registry.current() != old:
            bench.registry.activate(old)
        return change(self, *arguments)

    with bench.term() as term:
        learn(bench, term, first)
        old = bench.registry.current()
        assert old is not None
        learn(bench, term, second)
        forget = order(bench, "ant")
        monkeypatch.setattr(Promotion, "change", activating)
        carry_out(term)
    record = bench.queue.get(forget)
    assert record.state is TaskState.CONSOLIDATED
    assert bench.registry.manifest(record.version or 0).parent == old
    assert bench.state().labels == ("bee", "cow")


def test_a_task_that_is_forgotten_while_an_order_is_carried_out_stays_forgotten(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, times = Promotion.change, list[int]()

    def interrupted(self: Promotion, *arguments: Any) -> Any:
        if not times:
            bench.queue.remove(two)
            term.looked_up = -1000.0
            term.look_for_arrivals()
        times.append(1)
        return change(self, *arguments)

    with bench.term() as term:
        learn(bench, term, first)
        two = learn(bench, term, second)
        rename = order(bench, "ant", "emu")
        monkeypatch.setattr(Promotion, "change", interrupted)
        carry_out(term)
    assert len(times) == 2
    assert bench.queue.get(two).state is TaskState.FORGOTTEN
    assert bench.queue.get(rename).state is TaskState.CONSOLIDATED
    assert bench.state().labels == ("emu", "bee", "cow")


def test_going_back_brings_the_old_name_back_with_what_is_measured_of_it(bench: Bench, first: Task) -> None:
    with bench.term() as term:
        task = learn(bench, term, first)
        old = bench.registry.current()
        assert old is not None
        before = term.promotion.report(term.knowledge.base.state, ()).now
        order(bench, "ant", "emu")
        carry_out(term)
        renamed = term.knowledge.base.state
        assert term.promotion.report(renamed, ()).now == before
        assert renamed.last == before
        assert before.keys() == {task}
        bench.registry.activate(old)
        term.knowledge.catch_up()
        state = term.knowledge.base.state
        assert state.labels == ("ant", "bee", "cow")
        assert term.promotion.report(state, ()).now == before
        rename = order(bench, "ant", "gnu")
        carry_out(term)
        assert bench.queue.get(rename).state is TaskState.CONSOLIDATED
        assert term.knowledge.base.state.labels == ("gnu", "bee", "cow")


def test_held_out_images_of_a_forgotten_class_leave_the_disk(bench: Bench, first: Task) -> None:
    with bench.term() as term:
        task = learn(bench, term, first)
        shelf: ValidationShelf = term.promotion.shelf
        order(bench, "ant", "emu")
        order(bench, "emu")
        carry_out(term)
        left = shelf.load(task)
        assert left is not None
        assert left.labels == ("bee", "cow")
        for label in ("bee", "cow"):
            order(bench, label)
        carry_out(term)
        assert not shelf.holds(task)


def test_the_last_class_leaves_a_version_that_knows_none_and_can_be_taught_on(
    bench: Bench, first: Task
) -> None:
    with bench.trainer(FAST):
        bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
        for label in first.labels[:1] + first.labels[12:13] + first.labels[24:25]:
            bench.wait_for(order(bench, label), TaskState.CONSOLIDATED)
        current = bench.registry.current()
        assert current is not None
        manifest = bench.registry.manifest(current)
        assert (manifest.labels, manifest.slots, manifest.images) == ((), 0, ())
        again = bench.submit(replace(first, id="again"))
        bench.wait_for(again, TaskState.CONSOLIDATED)
    assert bench.state().labels == ("ant", "bee", "cow")


def test_no_canary_answers_with_a_label_that_is_no_more(bench: Bench, first: Task, second: Task) -> None:
    with bench.term() as term:
        learn(bench, term, first)
        old = bench.registry.current()
        learn(bench, term, second)
        assert old is not None
        bench.registry.set_canary(old, 0.5)
        order(bench, "dog", "emu")
        carry_out(term)
        assert bench.registry.canary() is not None, "it never knew that one"
        order(bench, "ant", "gnu")
        carry_out(term)
    assert bench.registry.canary() is None


def test_a_task_whose_class_was_renamed_is_forgotten_with_it(bench: Bench, first: Task, second: Task) -> None:
    with bench.trainer(FAST):
        one, two = bench.submit(first), bench.submit(second)
        for task in (one, two):
            bench.wait_for(task, TaskState.CONSOLIDATED)
        for change in (("dog", "emu"), ("elk", "ant"), ("emu", None)):
            bench.wait_for(order(bench, *change), TaskState.CONSOLIDATED)
        bench.queue.remove(two)
        told = bench.wait_for(two, TaskState.FORGOTTEN)
    assert "its images of ant still count" in str(told.error)
    assert bench.state().labels == ("ant", "bee", "cow")


def test_an_order_sent_while_a_task_trains_is_carried_out_once_that_is_learned(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.trainer(SLOW):
        one = bench.submit(first)
        bench.wait(one, lambda record: record.progress > 0)
        forget, two = order(bench, "ant"), bench.submit(second)
        bench.wait_for(two, TaskState.SERVED)
        assert bench.queue.get(forget).state is TaskState.QUEUED
        bench.wait_for(forget, TaskState.CONSOLIDATED)
        bench.wait_for(two, TaskState.CONSOLIDATED)
    assert bench.queue.get(one).state is TaskState.CONSOLIDATED
    assert bench.state().labels == ("bee", "cow", "dog", "elk")


def test_a_trainer_that_is_killed_leaves_its_orders_to_the_next(bench: Bench, first: Task) -> None:
    with bench.trainer(FAST):
        bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
    orders = [order(bench, label) for label in ("ant", "bee")]
    process = bench.process(FAST, "doomed")
    wait(lambda: any(bench.queue.get(each).state is not TaskState.QUEUED for each in orders))
    process.kill()
    process.join()
    with bench.trainer(FAST):
        for each in orders:
            assert bench.wait_for(each, TaskState.CONSOLIDATED).error is None
    assert bench.state().labels == ("cow",)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
