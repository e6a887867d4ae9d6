"""The trainer with a real queue, a real store and real signals."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from redis import Redis
from safetensors.torch import save_file

from exchange.blobs import BlobStore
from exchange.queue import QueueConfig, TaskQueue
from exchange.records import Sample, TaskRecord, TaskState
from exchange.registry import Registry
from model.backbone import BackboneSpec, load_backbone
from model.checkpoint import Checkpoint
from model.network import RetrievalViT
from trainer.config import LearnerConfig, ValidationConfig
from trainer.learner import Learner, Task
from trainer.process import TrainerConfig
from trainer.state import LearnerState
from trainer.worker import run

from .conftest import stripes

QUEUE = QueueConfig(lease_s=1.5)
SLOW = LearnerConfig(slots=4, epochs=12, least_steps=0, batch=4, width=100)
FAST = LearnerConfig(slots=4, epochs=2, least_steps=0, batch=8, width=100)


class Bench:
    """A queue, a store and whatever trainers a test starts on them."""

    def __init__(self, redis: Redis, url: str, root: Path, weights: Path) -> None:
        self.root = root
        self.queue = TaskQueue(redis, BlobStore(root / "blobs"), QUEUE)
        self.registry = Registry(redis, root / "versions")
        self.spec = BackboneSpec("vit_tiny_patch16_224", weights, 32)
        self.url = url

    def config(self, learner: LearnerConfig, consumer: str = "one") -> TrainerConfig:
        return TrainerConfig(
            self.url,
            self.root,
            backbone=self.spec,
            learner=learner,
            consumer=consumer,
            validation=ValidationConfig(share=0.1),
            queue=QUEUE,
            threads=1,
        )

    def submit(self, task: Task) -> str:
        samples = []
        for pixels, label in zip(task.pixels, task.labels, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
            samples.append(Sample(self.queue.blobs.put(buffer.getvalue()), label))
        return self.queue.submit(task.id, samples).task.id

    def wait(self, task: str, ready: Callable[[TaskRecord], bool]) -> TaskRecord:
        deadline = time.monotonic() + 60
        while not ready(record := self.queue.get(task)):
            assert time.monotonic() < deadline, f"still {record}"
            time.sleep(0.01)
        return record

    def wait_for(self, task: str, state: TaskState) -> TaskRecord:
        return self.wait(task, lambda record: record.state == state)

    @contextmanager
    def trainer(self, learner: LearnerConfig = FAST) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=run, args=(self.config(learner), stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def process(self, learner: LearnerConfig, consumer: str) -> multiprocessing.Process:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=train_until_killed, args=(self.config(learner, consumer),))
        process.start()
        return process  # type: ignore[return-value]

    def state(self) -> LearnerState:
        newest = self.registry.newest_consolidated()
        assert newest is not None
        return LearnerState.load(self.registry.path(newest.version, "learner"))


def train_until_killed(config: TrainerConfig) -> None:
    torch.set_num_threads(1)
    run(config, threading.Event())


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(vit.state_dict(), path)
    return path


@pytest.fixture
def bench(redis: Redis, redis_server: object, tmp_path: Path, weights: Path) -> Bench:
    return Bench(redis, redis_server.url, tmp_path, weights)  # type: ignore[attr-defined]


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
        f"accuracy.{task}",
        "seconds_to_fast",
        "seconds_to_consolidate",
        "loss",
        "train_accuracy",
    }
    assert bench.queue.depth() == 0
    states = [event.task.state for event in bench.queue.events(task)]
    assert list(dict.fromkeys(states)) == ["queued", "learning", "served", "consolidating", "consolidated"]
    labels = Checkpoint.load(bench.registry.path(consolidated.version, "serving")).labels
    assert sorted(labels) == ["ant", "bee", "cow"]


def test_a_task_does_not_wait_for_the_one_before_it_to_be_consolidated(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.trainer(SLOW):
        one = bench.submit(first)
        bench.wait_for(one, TaskState.CONSOLIDATING)
        two = bench.submit(second)
        bench.wait_for(two, TaskState.SERVED)
        assert bench.queue.get(one).state == TaskState.CONSOLIDATING
        current = bench.registry.current()
        assert current is not None
        served = bench.registry.manifest(current)
        assert served.fast == (one, two)
        assert set(served.labels) == {"ant", "bee", "cow", "dog", "elk"}


def test_what_is_unfinished_at_a_stop_goes_back_and_is_finished_later(bench: Bench, first: Task) -> None:
    with bench.trainer(SLOW):
        task = bench.submit(first)
        bench.wait_for(task, TaskState.CONSOLIDATING)
    assert bench.registry.newest_consolidated() is None
    with bench.trainer(FAST):
        bench.wait_for(task, TaskState.CONSOLIDATED)
    assert bench.state().tasks == (task,)


def test_a_killed_trainers_task_is_finished_once_by_the_next(bench: Bench, first: Task, second: Task) -> None:
    tasks = [bench.submit(first), bench.submit(second)]
    doomed = bench.process(SLOW, "doomed")
    bench.wait(tasks[0], lambda record: record.progress > 0.1)
    assert doomed.pid is not None
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.join()
    with bench.trainer(SLOW):
        for task in tasks:
            bench.wait_for(task, TaskState.CONSOLIDATED)
    assert bench.state().tasks == tuple(tasks)
    assert bench.state().features.counts.tolist() == [11] * 5  # one in twelve is held out
    assert list((bench.root / "epochs").iterdir()) == []


def test_an_undecodable_image_fails_its_task_and_no_other(bench: Bench, first: Task, second: Task) -> None:
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
    assert set(bench.state().projected.labels) == {"ant", "bee", "cow", "fox", "gnu"}


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
    assert bench.state().features.counts.tolist() == [11] * 7


def correct(bench: Bench, pixels: torch.Tensor, label: str) -> str:
    """What a server queues for POST /feedback about an answer of the version served now."""
    current = bench.registry.current()
    assert current is not None
    checkpoint = Checkpoint.load(bench.registry.path(current, "serving"))
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
    state = bench.state()
    assert state.corrected == tuple(made)
    assert dict(zip(state.features.labels, state.features.counts.tolist(), strict=True))["gnu"] == 3
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
    assert dict(zip(state.features.labels, state.features.counts.tolist(), strict=True))["gnu"] == 1


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
        space = Checkpoint.load(bench.registry.path(newest, "serving")).space
        stray = bench.queue.submit("stray", [Sample(bench.queue.blobs.put(b"\0" * 192 * 4), "elk", space)])
        failed = bench.wait_for(stray.task.id, TaskState.FAILED)
    assert failed.error is not None
    assert "does not descend" in failed.error
