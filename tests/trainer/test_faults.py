"""What must hold when a trainer dies, hangs, or finds its disk full: real processes, real signals, a real full disk."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis
from structlog.testing import capture_logs

from exchange.connection import connect
from exchange.embedded import EmbeddedRedis
from exchange.manifests import BackboneRecord, Draft
from exchange.queue import QueueConfig
from exchange.records import TaskRecord, TaskState
from tests.trainer.bench import FAST, SLOW, Bench, Trouble
from tests.trainer.conftest import stripes
from trainer import term
from trainer.learning.epochs import TaskTraining
from trainer.learning.task import Task


def waits(record: TaskRecord) -> bool:
    """Unfinished, and told why."""
    return not record.state.ended and record.error is not None and record.error.startswith("waiting: ")


def test_a_task_that_exhausts_memory_becomes_a_dead_letter_with_its_reason_and_can_be_tried_again(
    bench: Bench, second: Task
) -> None:
    huge = bench.submit_image(side=12_000)
    innocent = bench.submit(second)
    with bench.supervised(FAST, Trouble(spare_memory=448 << 20)):
        dead = bench.wait_for(huge, TaskState.FAILED)
        bench.wait_for(innocent, TaskState.CONSOLIDATED)
    assert dead.error is not None
    assert "its worker died or stalled 3 times" in dead.error
    assert "MemoryError" in dead.error
    assert [task.id for task in bench.queue.newest() if task.state is TaskState.FAILED] == [huge]
    assert bench.queue.retry(huge).error is None
    with bench.trainer(FAST):
        bench.wait_for(huge, TaskState.CONSOLIDATED)
    assert set(bench.state().tasks) == {huge, innocent}


def test_a_task_that_kills_its_trainer_outright_ends_as_a_dead_letter_too(
    bench: Bench, first: Task, second: Task
) -> None:
    deadly = bench.submit(replace(first, id="deadly"))
    innocent = bench.submit(second)
    with bench.supervised(FAST, Trouble(deadly="deadly")):
        assert "3 times" in str(bench.wait_for(deadly, TaskState.FAILED).error)
        bench.wait_for(innocent, TaskState.CONSOLIDATED)
    assert bench.state().tasks == (innocent,)


def test_a_task_whose_first_training_step_kills_the_trainer_is_no_endless_loop(
    bench: Bench, first: Task, second: Task
) -> None:
    deadly, innocent = bench.submit(first), bench.submit(second)
    with bench.supervised(FAST, Trouble(untrainable=first.labels[0])):
        assert "3 times" in str(bench.wait_for(deadly, TaskState.FAILED).error)
        bench.wait_for(innocent, TaskState.CONSOLIDATED)
    assert bench.state().tasks == (innocent,)


def test_a_stopped_trainer_that_wakes_up_after_another_took_over_publishes_nothing(
    bench: Bench, first: Task
) -> None:
    task = bench.submit(first)
    zombie = bench.process(SLOW, "zombie")
    assert zombie.pid is not None
    try:
        bench.wait(task, lambda record: record.progress > 0)
        os.kill(zombie.pid, signal.SIGSTOP)
        with bench.trainer(FAST):
            bench.wait_for(task, TaskState.CONSOLIDATED)
            before = [manifest.version for manifest in bench.registry.manifests()]
            os.kill(zombie.pid, signal.SIGCONT)
            third = bench.submit(stripes("t3", ("fox", "gnu"), seed=2))
            bench.wait_for(third, TaskState.CONSOLIDATED)
            assert zombie.is_alive()
            after = [manifest.consolidated for manifest in bench.registry.manifests()]
    finally:
        zombie.kill()
        zombie.join()
    assert len(after) == len(before) + 2, "a fast and a consolidated version of the third task"
    assert bench.state().tasks == (task, third)
    assert bench.state().moments.counts.tolist() == [11] * 5


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, mounted for one test."""
    root = tmp_path / "disk"
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(root)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield root
    subprocess.run(["umount", "-l", str(root)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            pass
    return filler


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_task_waits_for_a_disk_that_cannot_be_written_and_is_learned_when_it_can(
    redis: Redis,
    redis_server: EmbeddedRedis,
    disk: Path,
    weights: Path,
    first: Task,
    second: Task,
    trouble: str,
) -> None:
    bench = Bench(redis, redis_server.url, disk, weights)
    with bench.trainer(FAST):
        served = bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED).version
    task = bench.submit(second)
    if trouble == "full":
        filler = fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with bench.trainer(FAST):
        waiting = bench.wait(task, waits)
        assert ("No space left" if trouble == "full" else "Read-only file system") in str(waiting.error)
        assert bench.registry.current() == served
        if trouble == "full":
            filler.unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        learned = bench.wait_for(task, TaskState.CONSOLIDATED)
    assert learned.error is None
    assert len(bench.state().tasks) == 2


def test_a_store_that_is_away_costs_no_task(bench: Bench, first: Task) -> None:
    task, blobs = bench.submit(first), bench.queue.blobs.root
    away = blobs.rename(blobs.with_name("away"))
    with bench.trainer():
        bench.wait(task, waits)
        away.rename(blobs)
        assert bench.wait_for(task, TaskState.CONSOLIDATED).error is None


def test_a_task_that_waits_for_the_store_is_not_told_where_it_lies(bench: Bench, first: Task) -> None:
    with bench.trainer():
        while not bench.queue.redis.exists(
            bench.queue.keys.lease
        ):  # what it checks as it starts is over by then
            time.sleep(0.01)
        bench.registry.shelf.root.write_text("no folder")
        waiting = str(bench.wait(bench.submit(first), waits).error)
    assert "versions cannot be listed" in waiting
    assert str(bench.root) not in waiting


def test_the_last_words_of_a_trainer_do_not_tell_where_a_file_lies(bench: Bench, first: Task) -> None:
    bench.submit(first)
    with bench.term() as term:
        claim = term.claims.take(block_ms=0)
        assert claim is not None
        with pytest.raises(PermissionError), term.claims.working_on(claim):
            raise PermissionError(13, "Permission denied", str(bench.root / "epochs"))
        assert bench.queue.get(claim.task.id).error == "PermissionError: Permission denied"


def test_a_disk_that_fills_up_in_the_midst_of_training_costs_no_task(bench: Bench, first: Task) -> None:
    """The kernel refuses to write files beyond a limit, which the running process is given and relieved of."""
    task = bench.submit(first)
    trainer = bench.process(SLOW, "one")
    assert trainer.pid is not None
    try:
        bench.wait(task, lambda record: record.progress > 0)
        unlimited = resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        waiting = bench.wait(task, waits)
        assert "cannot write" in str(waiting.error)
        assert bench.consolidated() is None
        resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, unlimited)
        assert bench.wait_for(task, TaskState.CONSOLIDATED).error is None
        assert trainer.is_alive()
    finally:
        trainer.kill()
        trainer.join()


def test_a_damaged_base_keeps_tasks_waiting_until_another_version_is_activated(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.trainer(FAST):
        one = bench.submit(first)
        version = bench.wait_for(one, TaskState.CONSOLIDATED).version
        assert version is not None
    path = bench.registry.shelf.path(version, "learner")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with bench.trainer(FAST):
        two = bench.submit(second)
        waiting = bench.wait(two, waits)
        assert "is not the file that version" in str(waiting.error)
        assert bench.registry.current() == version, "it is still served"
        fast = bench.registry.shelf.manifest(version).parent
        assert fast is not None
        bench.registry.activate(fast)
        assert bench.wait_for(two, TaskState.CONSOLIDATED).error is None
    assert bench.state().tasks == (two,)


def test_a_store_moved_to_another_backbone_keeps_tasks_waiting_and_the_trainer_alive(
    bench: Bench, first: Task, second: Task
) -> None:
    with bench.trainer(FAST):
        one = bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
        assert one.version is not None
        ours = bench.registry.shelf.manifest(one.version)
        elsewhere = BackboneRecord("vit_small", 96, "ab" * 32)
        draft = Draft(
            "consolidated", one.version, elsewhere, ours.labels, ours.consolidated, (), slots=0, metrics={}
        )
        moved = bench.registry.publish(draft, files={})
        two = bench.submit(second)
        told = str(bench.wait(two, waits).error)
        assert f"version {moved.version} was learned on vit_small at 96 px (weights abababababab)" in told
        bench.registry.activate(one.version)
        assert bench.wait_for(two, TaskState.CONSOLIDATED).error is None
    assert bench.state().tasks == (one.id, two)


def test_redis_may_be_killed_in_the_midst_of_training(
    tmp_path: Path, weights: Path, first: Task, second: Task
) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    try:
        with connect(server.url) as redis, capture_logs() as lines:
            bench = Bench(redis, server.url, tmp_path / "store", weights)
            with bench.trainer(SLOW):
                tasks = [bench.submit(first), bench.submit(second)]
                bench.wait(tasks[0], lambda record: record.progress > 0)
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                server.stop()
                time.sleep(4)
                server.start()
                for task in tasks:
                    bench.wait_for(task, TaskState.CONSOLIDATED)
            assert sorted(bench.state().tasks) == sorted(tasks)
            assert bench.state().moments.counts.tolist() == [11] * 5
        trouble = [line["event"] for line in lines if line["log_level"] == "warning"]
        assert 1 <= len(trouble) <= 6, trouble
    finally:
        server.stop()


def test_training_goes_on_while_redis_is_restarted(
    tmp_path: Path, weights: Path, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps, restarted = TaskTraining.step, list[TaskTraining](), threading.Event()

    def stepped(self: TaskTraining, *arguments: Any) -> dict[str, float]:
        steps.append(self)
        if len(steps) == 3:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
        if len(steps) == 6:
            server.start()
            restarted.set()
        return step(self, *arguments)

    monkeypatch.setattr(TaskTraining, "step", stepped)
    monkeypatch.setattr(term, "LOOK_UP_S", 0)
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    try:
        with connect(server.url) as redis:
            bench = Bench(redis, server.url, tmp_path / "store", weights)
            with bench.trainer(SLOW, queue=QueueConfig(lease_s=60)):
                task = bench.submit(first)
                assert restarted.wait(120)
                bench.wait_for(task, TaskState.CONSOLIDATED)
        assert len(set(steps)) == 1
    finally:
        server.stop()


def test_training_that_diverges_leaves_its_slots_out(bench: Bench, first: Task) -> None:
    with bench.trainer(replace(FAST, lr=1e20)):
        task = bench.submit(first)
        record = bench.wait_for(task, TaskState.CONSOLIDATED)
    assert record.version is not None
    assert bench.registry.shelf.manifest(record.version).slots == 0


def test_a_task_that_ruins_what_was_known_is_refused_and_its_fast_version_gives_way(
    bench: Bench, first: Task
) -> None:
    """The names of the old classes on each other's images, five times over: without slots it is no better."""
    lying = Task("lying", torch.cat([first.pixels.roll(12, 0)] * 5), first.labels * 5)
    with bench.trainer(FAST, least_images=3):
        good = bench.wait_for(bench.submit(first), TaskState.CONSOLIDATED)
        refused = bench.wait_for(bench.submit(lying), TaskState.FAILED)
        assert "held-out images" in str(refused.error)
        bench.wait(refused.id, lambda _: bench.registry.current() not in (good.version, refused.version))
    assert bench.state().tasks == (good.id,)
    assert bench.state().moments.counts.tolist() == [11] * 3
