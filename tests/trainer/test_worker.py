"""The trainer with a real queue, a real store and real signals."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exchange.lease import Lease
from exchange.records import Sample, TaskState
from model.backbone import load_backbone
from model.checkpoint import Checkpoint
from model.network import RetrievalViT
from tests.trainer.bench import FAST, SLOW, Bench
from tests.trainer.conftest import stripes
from trainer.learning.config import LearnerConfig
from trainer.learning.learner import Learner
from trainer.learning.task import Task


def test_a_task_is_served_fast_and_then_for_good(bench: Bench, first: Task) -> None:
    with bench.trainer():
        task = bench.submit(first)
        record = bench.wait_for(task, TaskState.CONSOLIDATED)
    fast, consolidated = reversed(bench.registry.manifests())
    assert (fast.kind, fast.fast, fast.consolidated, fast.slots) == ("fast", (task,), (), 0)
    assert (consolidated.kind, consolidated.fast, consolidated.consolidated) == ("consolidated", (), (task,))
    assert consolidated.slots == 4
    assert consolidated.parent == fast.version
    assert record.version == bench.registry.current() == consolidated.version
    assert record.progress == 1
    assert record.metrics.keys() >= {
        "accuracy",
        "forgetting",
        "held_out_images",
        "seconds_to_fast",
        "seconds_to_consolidate",
        "loss",
        "train_accuracy",
        "spread_ratio",
        "spectral_radius",
    }
    assert record.served_at is not None
    assert record.metrics["seconds_to_fast"] == pytest.approx(record.served_at - record.created_at, abs=2e-3)
    listed = (Path(__file__).parents[2] / "docs" / "teaching.md").read_text()
    assert not [name for name in record.metrics if f"`{name}`" not in listed], "not told what they mean"
    assert f"accuracy.{task}" in consolidated.metrics
    assert f"accuracy.{task}" not in record.metrics, "records would grow with the square of the tasks"
    assert bench.queue.depth() == 0
    states = [event.task.state for event in bench.queue.events(task)]
    assert list(dict.fromkeys(states)) == ["queued", "learning", "served", "consolidating", "consolidated"]
    labels = Checkpoint.load(bench.registry.shelf.path(consolidated.version, "serving")).labels
    assert sorted(labels) == ["ant", "bee", "cow"]


def test_a_task_does_not_wait_for_the_one_before_it_to_be_consolidated(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.trainer(SLOW):
        one = bench.submit(first)
        bench.wait_for(one, TaskState.CONSOLIDATING)
        two = bench.submit(second)
        bench.wait_for(two, TaskState.SERVED)
        served = [manifest for manifest in bench.registry.manifests() if two in manifest.fast][-1]
        assert served.fast == (one, two)
        assert set(served.labels) == {"ant", "bee", "cow", "dog", "elk"}


def test_no_more_tasks_are_held_than_memory_is_meant_for(bench: Bench, first: Task, second: Task) -> None:
    one, two = bench.submit(first), bench.submit(second)
    with bench.trainer(max_pending_mb=0):
        bench.wait_for(two, TaskState.CONSOLIDATED)
    served = [set(manifest.fast) for manifest in bench.registry.manifests()]
    assert {one} in served
    assert {two} in served
    assert {one, two} not in served


def test_each_of_many_waiting_tasks_takes_as_few_solves_as_one_alone(
    bench: Bench, first: Task, solved: list[int]
) -> None:
    tasks = [bench.submit(replace(first.pick([row]), id=f"t{row}")) for row in range(6)]
    with bench.trainer(FAST):
        for task in tasks:
            bench.wait_for(task, TaskState.CONSOLIDATED)
    # Each is served fast, learned for good, and served with those that still wait.
    assert len(solved) <= 3 * len(tasks)


def test_a_task_alone_is_learned_for_good_with_the_head_that_is_served_already(
    bench: Bench, first: Task, second: Task, solved: list[int]
) -> None:
    with bench.term() as term:
        term.learner.config = LearnerConfig(epochs=0)
        for task, classes in ((first, 3), (second, 5)):
            bench.submit(task)
            term.accept_waiting(block_ms=0)
            served = term.knowledge.serving
            term.consolidation.consolidate(term.claims.pending[0])
            learned = term.knowledge.base.state
            assert solved.count(classes) == len(solved), "one head"
            assert (learned.head, learned.moments) == (served.head, served.moments)
            solved.clear()
    assert bench.state().tasks == learned.tasks


def test_a_backlog_is_drained_with_one_task_judging_a_head_at_a_time(
    bench: Bench, first: Task, second: Task, judges: list[int]
) -> None:
    tasks = [first, second, stripes("t3", ("fox", "gnu"), seed=2)]
    with bench.term() as term:
        term.learner.config = LearnerConfig(epochs=0)
        for task in tasks:
            bench.submit(task)
        term.accept_waiting(block_ms=0)
        judges.clear()
        while term.claims.pending:
            term.consolidation.consolidate(term.claims.pending[0])
    assert judges == [33, 22, 22], "less those held out"
    assert set(bench.state().judged) == set(bench.state().usual) == set(bench.state().tasks)


def test_what_is_unfinished_at_a_stop_goes_back_and_is_finished_later(bench: Bench, first: Task) -> None:
    with bench.trainer(SLOW):
        task = bench.submit(first)
        bench.wait_for(task, TaskState.CONSOLIDATING)
    assert bench.consolidated() is None
    with bench.trainer(FAST):
        bench.wait_for(task, TaskState.CONSOLIDATED)
    assert bench.state().tasks == (task,)


def test_a_killed_trainers_task_is_finished_once_by_the_next(bench: Bench, first: Task, second: Task) -> None:
    tasks = [bench.submit(first), bench.submit(second)]
    doomed = bench.process(SLOW, "doomed")
    bench.wait(tasks[0], lambda record: record.progress > 0.1)
    bench.wait_for(tasks[1], TaskState.SERVED)
    assert doomed.pid is not None
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.join()
    with bench.trainer(SLOW):
        for task in tasks:
            bench.wait_for(task, TaskState.CONSOLIDATED)
    known = [len(manifest.labels) for manifest in reversed(bench.registry.manifests())]
    assert known == sorted(known), "what was served once is never missing in between"
    assert bench.state().tasks == tuple(tasks)
    assert bench.state().moments.counts.tolist() == [11] * 5  # one in twelve is held out
    assert list((bench.root / "epochs").iterdir()) == []


def test_an_undecodable_image_fails_its_task_and_no_other(bench: Bench, second: Task) -> None:
    broken = bench.queue.submit("broken", [Sample(bench.queue.blobs.put(b"not an image"), "x")]).task.id
    with bench.trainer():
        failed = bench.wait_for(broken, TaskState.FAILED)
        bench.wait_for(bench.submit(second), TaskState.CONSOLIDATED)
    assert failed.error is not None
    assert "not a JPEG, PNG or WebP" in failed.error


def test_after_a_roll_back_the_next_task_builds_on_what_is_served(
    bench: Bench, first: Task, second: Task
) -> None:
    third = stripes("t3", ("fox", "gnu"), seed=2)
    with bench.trainer():
        one = bench.submit(first)
        kept = bench.wait_for(one, TaskState.CONSOLIDATED).version
        assert kept is not None
        bench.wait_for(bench.submit(second), TaskState.CONSOLIDATED)
        bench.registry.activate(kept)
        three = bench.submit(third)
        bench.wait_for(three, TaskState.CONSOLIDATED)
    assert bench.state().tasks == (one, three)
    assert set(bench.state().labels) == {"ant", "bee", "cow", "fox", "gnu"}


def test_two_trainers_share_a_queue_without_learning_anything_twice(
    bench: Bench, first: Task, second: Task
) -> None:
    others = [bench.process(FAST, name) for name in ("left", "right")]
    try:
        tasks = [bench.submit(task) for task in (first, second, stripes("t3", ("fox", "gnu"), seed=2))]
        for task in tasks:
            bench.wait_for(task, TaskState.CONSOLIDATED)
    finally:
        for other in others:
            other.kill()
            other.join()
    assert sorted(bench.state().tasks) == sorted(tasks)
    assert bench.state().moments.counts.tolist() == [11] * 7


def correct(bench: Bench, pixels: torch.Tensor, label: str) -> str:
    """What a server queues for POST /feedback about an answer of the version served now."""
    current = bench.registry.current()
    assert current is not None
    checkpoint = Checkpoint.load(bench.registry.shelf.path(current, "serving"))
    network = RetrievalViT(load_backbone(bench.spec), checkpoint.loop)
    features = Learner(network, FAST).extract(checkpoint.pools, pixels)
    blobs = [bench.queue.blobs.put(row.numpy().tobytes()) for row in features]
    samples = [Sample(blob, label, checkpoint.space) for blob in blobs]
    return bench.queue.submit("feedback", samples).task.id


def test_corrections_are_learned_once_and_kept(bench: Bench, first: Task, second: Task) -> None:
    gnus = stripes("t9", ("gnu",)).pixels
    with bench.trainer(SLOW):
        bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
        task = bench.submit(second)
        bench.wait_for(task, TaskState.CONSOLIDATING)
        made = [correct(bench, gnus[:1], "gnu"), correct(bench, gnus[1:3], "gnu")]
        for one in made:
            bench.wait_for(one, TaskState.SERVED)  # while another task is being consolidated
        for one in (task, *made):
            bench.wait_for(one, TaskState.CONSOLIDATED)
        bench.queue.remove(made[1])  # its label was known by then
        stays = bench.wait(made[1], lambda record: record.state.ended and record.error is not None)
        assert stays.state is TaskState.CONSOLIDATED
        assert "not forgotten: a correction of a known label" in str(stays.error)
    state = bench.state()
    assert state.corrected == tuple(made)
    assert dict(zip(state.moments.labels, state.moments.counts.tolist(), strict=True))["gnu"] == 3
    assert bench.queue.depth() == 0


def test_a_correction_given_back_is_counted_once(bench: Bench, first: Task, second: Task) -> None:
    with bench.trainer(SLOW):
        bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
        bench.wait_for(bench.submit(second), TaskState.CONSOLIDATING)
        made = correct(bench, stripes("t9", ("gnu",)).pixels[:1], "gnu")
        bench.wait_for(made, TaskState.SERVED)
    assert bench.state().corrected == ()
    with bench.trainer(SLOW):
        bench.wait_for(made, TaskState.CONSOLIDATED)
    state = bench.state()
    assert state.corrected == (made,)
    assert dict(zip(state.moments.labels, state.moments.counts.tolist(), strict=True))["gnu"] == 1


def test_a_correction_from_another_branch_fails_and_says_why(bench: Bench, first: Task, second: Task) -> None:
    with bench.trainer():
        kept = bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED).version
        assert kept is not None
        bench.wait_for(bench.submit(second), TaskState.CONSOLIDATED)
        label = correct(bench, second.pixels[:1], "elk")
        bench.wait_for(label, TaskState.CONSOLIDATED)
        newest = bench.registry.current()
        bench.registry.activate(kept)
        assert newest is not None
        served = Checkpoint.load(bench.registry.shelf.path(newest, "serving"))
        features = bench.queue.blobs.put(bytes(4 * len(served.head.weight)))
        stray = bench.queue.submit("stray", [Sample(features, "elk", served.space)])
        failed = bench.wait_for(stray.task.id, TaskState.FAILED)
    assert failed.error is not None
    assert "does not descend" in failed.error


def test_the_lease_is_let_go_only_when_nothing_renews_it_any_more(
    bench: Bench, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewed once more, it would keep the next trainer waiting until it runs out."""
    beating, release = [], Lease.release

    def released(lease: Lease, token: int) -> None:
        beating.append(any(thread.name == "heartbeat" for thread in threading.enumerate()))
        release(lease, token)

    monkeypatch.setattr(Lease, "release", released)
    with bench.trainer():
        bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
    assert beating == [False]
