"""Forgetting: what must go, what must stay as it is, and what happens when it comes at a bad moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exchange.records import Claim, TaskChange, TaskState
from model.checkpoint import Checkpoint
from model.network import RetrievalViT
from tests.trainer.bench import FAST, SLOW, Bench, learn
from tests.trainer.conftest import stripes
from trainer.intake.claims import Claims
from trainer.learning.config import LearnerConfig
from trainer.learning.forget import own_labels, without_classes, without_slots
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.validation.report import Report, rests_on


def two_tasks(learner: Learner, first: Task, second: Task) -> LearnerState:
    return learner.consolidate(learner.consolidate(learner.start(), first), second)


def test_classes_and_slots_of_a_task_go_and_everything_else_stays(
    learner: Learner, first: Task, second: Task
) -> None:
    state = two_tasks(learner, first, second)
    left = without_slots(without_classes(learner, state, "t1"), "t1")
    assert left.labels == left.moments.labels == ("dog", "elk")
    assert left.tasks == ("t2",)
    assert left.pools.slot_tasks == ("t2",) * 4
    assert torch.equal(left.pools.values, state.pools.values[:, 4:])
    assert torch.equal(left.moments.sums, state.moments.sums[3:])
    torch.testing.assert_close(left.moments.covariance, state.moments.covariance, rtol=1e-6, atol=1e-8)
    assert left.head.weight.shape[1] == 2
    learner.checkpoint(left).check()


def test_the_last_task_leaves_an_empty_head(learner: Learner, first: Task) -> None:
    state = learner.consolidate(learner.start(), first)
    left = without_slots(without_classes(learner, state, "t1"), "t1")
    assert left.labels == ()
    assert left.pools.slots == 0
    learner.checkpoint(left).check()
    assert learner.consolidate(left, first).tasks == ("t1",)


def test_a_class_that_another_task_also_taught_stays(learner: Learner, first: Task) -> None:
    again = replace(stripes("t2", ("ant", "dog"), seed=3), id="t2")
    state = two_tasks(learner, first, again)
    assert own_labels(state, "t1") == {"bee", "cow"}
    left = without_classes(learner, state, "t1")
    assert left.labels == ("ant", "dog")
    assert torch.equal(left.moments.sums[0], state.moments.sums[0])
    assert own_labels(left, "t2") == {"ant", "dog"}


def test_what_a_forgotten_task_said_of_how_sure_to_be_and_what_is_usual_goes_with_it(
    learner: Learner, first: Task, second: Task
) -> None:
    alone = learner.consolidate(learner.start(), first)
    mislabelled = replace(second, labels=tuple(second.labels[::2] + second.labels[1::2]))
    state = learner.consolidate_head(alone, mislabelled)
    assert state.sharpness != alone.sharpness
    assert state.usual != alone.usual
    left = without_classes(learner, state, "t2")
    assert (left.sharpness, left.usual) == (alone.sharpness, alone.usual)
    learner.checkpoint(left).check()


def test_what_tasks_said_is_in_the_file(learner: Learner, first: Task, second: Task, tmp_path: Path) -> None:
    state, path = two_tasks(learner, first, second), tmp_path / "state.safetensors"
    state.save(path)
    loaded = LearnerState.load(path)
    assert (loaded.judged, loaded.usual) == (state.judged, state.usual)


def test_slots_that_stay_keep_small_tasks_from_bringing_more(
    network: RetrievalViT, first: Task, second: Task
) -> None:
    """Everything known rests on them, though nobody can tell any more how many classes they were taught."""
    learner = Learner(
        network, LearnerConfig(least_images=0, slots=4, epochs=1, least_steps=0, batch=8, settled=3)
    )
    state = two_tasks(learner, first, second)
    assert set(state.pools.slot_tasks) == {"t1"}
    small = stripes("t3", ("gnu", "hen"), seed=2)
    assert not learner.trains_pools(state, small)
    assert not learner.trains_pools(without_classes(learner, state, "t1"), small)


def test_slots_stay_where_others_rest_on_them(learner: Learner, first: Task, second: Task) -> None:
    state = two_tasks(learner, first, second)

    def report(accuracy: float, images: int = 100) -> Report:
        return Report({"t2": accuracy}, {"t2": accuracy}, {"t2": 1.0}, {}, {"t2": images})

    assert not rests_on(state, "t1", report(0.9), report(0.9))
    assert not rests_on(state, "t1", report(0.9), report(0.95))
    assert not rests_on(state, "t1", report(0.9), report(0.891))
    assert rests_on(state, "t1", report(0.9), report(0.88))
    assert rests_on(state, "t1", report(1.0, 99), report(1.0, 99)), "so few show no loss of one in a hundred"
    assert not rests_on(state, "t1", report(1.0, 100), report(1.0, 100))
    nothing = Report({}, {}, {}, {}, {})
    assert rests_on(state, "t1", nothing, nothing)
    assert not rests_on(state, "t2", nothing, nothing)
    new = replace(report(1.0), kept={})
    assert rests_on(state, "t1", new, new), "seen now, but by no version before"


def test_a_learned_task_is_forgotten_once_and_for_good(bench: Bench, first: Task, second: Task) -> None:
    with bench.trainer(FAST):
        one, two = bench.submit(first), bench.submit(second)
        for task in (one, two):
            bench.wait_for(task, TaskState.CONSOLIDATED)
        before = next(manifest for manifest in bench.registry.manifests()[1:] if one in manifest.applied)
        bench.registry.set_canary(before.version, 0.5)
        held_out = bench.root / "validation"
        assert {path.stem for path in held_out.iterdir()} == {one, two}
        assert bench.queue.remove(one).state is TaskState.FORGETTING
        bench.wait_for(one, TaskState.FORGOTTEN)
        newest = bench.consolidated()
        assert newest is not None
        assert newest.version == bench.registry.current()
        assert bench.registry.canary() is None  # it knew the task
        assert (newest.consolidated, newest.labels) == ((two,), ("dog", "elk"))
        assert {path.stem for path in held_out.iterdir()} == {two}
        bench.wait(one, lambda _: bench.queue.depth() == 0)
        three = bench.submit(stripes("t3", ("fox", "gnu"), seed=2))
        bench.wait_for(three, TaskState.CONSOLIDATED)
    assert bench.state().tasks == (two, three)
    assert bench.queue.get(one).state is TaskState.FORGOTTEN


def test_nothing_rests_on_what_is_left_once_every_task_is_forgotten(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.term() as term:
        new = term.knowledge.base.state
        tasks = [learn(bench, term, task) for task in (first, second)]
        for task in tasks:
            bench.queue.remove(task)
        term.accept_waiting(block_ms=0)
        left = term.knowledge.base.state
        assert (left.labels, left.tasks, left.pools.slot_tasks) == ((), (), ()), (
            "those of the first had stayed"
        )
        for name in ("gram", "sums", "counts", "scatter"):
            assert torch.equal(getattr(left.moments, name), getattr(new.moments, name))
        assert torch.equal(left.pools.feedback, new.pools.feedback)
        assert term.learner.trains_pools(left, first)
        learn(bench, term, first)
        assert bench.consolidated() is not None
    assert set(bench.state().labels) == set(first.labels)


def test_a_forgotten_task_that_a_version_brings_back_is_forgotten_again(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.trainer(FAST):
        one, two = bench.submit(first), bench.submit(second)
        for task in (one, two):
            bench.wait_for(task, TaskState.CONSOLIDATED)
        known = bench.registry.current()
        assert known is not None
        bench.queue.remove(one)
        bench.wait_for(one, TaskState.FORGOTTEN)
        bench.registry.activate(known)
        bench.queue.remove(one, again=True)
        bench.wait_for(one, TaskState.FORGOTTEN)
        bench.wait(one, lambda _: bench.queue.depth() == 0)
    assert bench.state().labels == ("dog", "elk")


def test_a_task_is_forgotten_in_the_midst_of_its_training(bench: Bench, first: Task, second: Task) -> None:
    with bench.trainer(SLOW):
        one, two = bench.submit(first), bench.submit(second)
        bench.wait(one, lambda record: record.progress > 0)
        bench.wait_for(two, TaskState.SERVED)
        bench.queue.remove(one)
        bench.wait_for(one, TaskState.FORGOTTEN)
        current = bench.registry.current()
        assert current is not None
        assert Checkpoint.load(bench.registry.shelf.path(current, "serving")).labels == ("dog", "elk")
        bench.wait_for(two, TaskState.CONSOLIDATED)
    assert bench.state().tasks == (two,)
    assert list((bench.root / "epochs").iterdir()) == []


@pytest.mark.usefixtures("apart")
def test_what_is_served_between_a_withdrawal_and_its_order_does_not_know_the_task(
    bench: Bench, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Claims.report
    one, two = bench.submit(first), bench.submit(second)

    def withdraw_before_it_is_served(self: Claims, claim: Claim, change: TaskChange) -> None:
        if (claim.task.id, change.state) == (one, TaskState.SERVED):
            bench.queue.remove(one)  # the order comes behind `two`, which is learned first
        report(self, claim, change)

    monkeypatch.setattr(Claims, "report", withdraw_before_it_is_served)
    with bench.trainer(FAST):
        bench.wait_for(one, TaskState.FORGOTTEN)
        bench.wait_for(two, TaskState.CONSOLIDATED)
    served = {manifest.applied: manifest.labels for manifest in bench.registry.manifests()}
    assert served == {(one,): ("ant", "bee", "cow"), (two,): ("dog", "elk")}


def test_an_order_given_while_no_trainer_runs_is_carried_out_by_the_next(bench: Bench, first: Task) -> None:
    with bench.trainer(SLOW):
        task = bench.submit(first)
        bench.wait(task, lambda record: record.progress > 0)
    assert bench.queue.get(task).state is TaskState.SERVED
    bench.queue.remove(task)
    with bench.trainer(FAST):
        bench.wait_for(task, TaskState.FORGOTTEN)
        bench.wait(task, lambda _: bench.queue.depth() == 0)
    current = bench.registry.current()
    assert current is not None
    assert bench.registry.shelf.manifest(current).labels == ()
