"""The client against a real server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from hippotune import AsyncClient, Client, Refused, TaskFailed, Unreachable
from hippotune.demo.data import DemoTask
from tests.hippotune.conftest import ROOT, Up, trainer_of


def write_folder(root: Path, task: DemoTask) -> Path:
    for number, example in enumerate(task.train):
        path = root / example.label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example.image)
    return root


def test_it_needs_httpx_alone() -> None:
    heavy = ("torch", "fastapi", "redis", "pydantic", "typer", "PIL", "numpy")
    code = f"import sys, hippotune; print([n for n in {heavy} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"


def test_an_image_is_classified_within_its_budget(client: Client, tasks: list[DemoTask]) -> None:
    image = tasks[0].test[0].image
    answer = client.classify(
        image, tmax=2, budget_ms=None, epsilon=0.0, topk=1, keep=0.7, labels=["1"], explain=True
    )
    assert (answer.budget.tmax, answer.budget.topk, answer.budget.keep) == (2, 1, 0.7)
    assert [prediction.label for prediction in answer.predictions] == ["1"]
    assert answer.steps == (2, 2), "one for each layer that deliberates"
    assert answer.trace is not None
    assert [traced.layer for traced in answer.trace] == [1, 3]
    for traced in answer.trace:
        assert [len(mixed) for mixed in traced.steps] == [1, 1], "topk slots a step"
        assert all(mixed[0].weight == pytest.approx(1) for mixed in traced.steps)
        assert len(traced.moved) == len(traced.cosines) == len(traced.path) == 2
    assert client.classify(image).trace is None
    assert answer.timings_ms.total >= answer.timings_ms.compute > 0


def test_a_file_is_as_good_as_its_bytes(client: Client, tasks: list[DemoTask], tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(tasks[0].test[0].image)
    assert client.classify(path).predictions == client.classify(str(path)).predictions


def test_many_images_come_back_in_order(client: Client, tasks: list[DemoTask]) -> None:
    images = [example.image for example in tasks[0].test]
    together, alone = client.classify_many(images), [client.classify(image) for image in images]
    assert [answer.label for answer in together] == [answer.label for answer in alone]
    assert len(client.classify_many(images[:1])) == 1


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "pairs"])
def test_a_task_comes_in_every_form(client: Client, tasks: list[DemoTask], tmp_path: Path, form: str) -> None:
    task = tasks[1]
    folder = write_folder(tmp_path / "digits", task)
    if form == "folder":
        submitted = client.submit(folder, name=form)
    elif form == "zip":
        with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
            for path in folder.rglob("*.png"):
                archive.write(path, path.relative_to(folder))
        submitted = client.submit(tmp_path / "task.zip", name=form)
    elif form == "tar":
        with tarfile.open(tmp_path / "task.tar", "w") as archive:
            archive.add(folder, ".")
        submitted = client.submit(str(tmp_path / "task.tar"), name=form)
    else:
        submitted = client.submit([(example.image, example.label) for example in task.train], name=form)
    assert (submitted.name, submitted.images, submitted.labels) == (form, len(task.train), ("2", "3"))
    learned = client.wait(submitted, timeout=100)
    assert learned.state == "consolidated"
    assert learned.id in {task.id for task in client.tasks()}
    [newest] = client.tasks(limit=1)
    assert newest.id == learned.id
    assert learned.id in {task.id for task in client.tasks("consolidated")}
    assert learned.id not in {task.id for task in client.tasks("failed")}


def test_labels_may_hold_what_a_path_may_not(client: Client, tasks: list[DemoTask]) -> None:
    pairs = [(tasks[2].train[0].image, "4/four, at last"), (tasks[2].train[-1].image, "5")]
    assert client.wait(client.submit(pairs, "odd labels")).labels == ("4/four, at last", "5")
    answer = client.classify(tasks[2].test[0].image, labels=["4/four, at last"])
    assert answer.label == "4/four, at last"


def test_the_same_key_makes_the_same_task(client: Client, tasks: list[DemoTask]) -> None:
    pairs = [(example.image, example.label) for example in tasks[0].train]
    first = client.submit(pairs, "once", idempotency_key="just-once")
    assert client.submit(pairs, "once", idempotency_key="just-once").id == first.id
    assert client.submit(pairs, "once").id != first.id
    with pytest.raises(Refused) as caught:
        client.submit(pairs[:1], "once", idempotency_key="just-once")
    assert caught.value.status == 422


def test_what_is_submitted_again_after_it_was_forgotten_is_learned_again(
    client: Client, tasks: list[DemoTask]
) -> None:
    pairs = [(example.image, f"back {example.label}") for example in tasks[0].train]
    first = client.wait(client.submit(pairs, "back", idempotency_key="back"))
    assert client.remove(first).state == "forgetting"
    again = client.wait(client.submit(pairs, "back", idempotency_key="back"))
    assert again.id != first.id
    assert "repeated_images" not in again.metrics
    assert client.task(first).state == "forgotten"


def test_versions_roll_back_and_forward(client: Client) -> None:
    newest, *_, oldest = client.versions()
    assert newest.version > oldest.version
    assert client.activate(oldest.version).version == oldest.version
    assert [v.version for v in client.versions() if v.current] == [oldest.version]
    assert client.version(oldest.version).labels == ("0", "1")
    assert client.version(oldest.version).label_count == 2
    assert newest.label_count == len(newest.labels)
    short = client.versions(labels=False)[0]
    assert (short.version, short.labels, short.label_count) == (newest.version, (), newest.label_count)
    client.activate(newest.version)


def test_an_answer_is_corrected_without_its_image(client: Client, tasks: list[DemoTask]) -> None:
    answer = client.classify(tasks[0].test[0].image)
    task = client.wait(client.feedback(answer, "a zero I drew"))
    assert (task.images, task.labels) == (1, ("a zero I drew",))
    assert client.feedback(answer.id, "a zero I drew").id == task.id
    newest = client.versions()[0]
    assert newest.current
    assert "a zero I drew" in newest.labels


def test_refusals_name_the_field(client: Client, tasks: list[DemoTask]) -> None:
    with pytest.raises(Refused, match="tmax") as caught:
        client.classify(tasks[0].test[0].image, tmax=99)
    assert (caught.value.status, caught.value.busy) == (422, False)
    with pytest.raises(Refused) as caught:
        client.classify(b"not an image")
    assert caught.value.status == 415
    with pytest.raises(Refused) as caught:
        client.task("no-such-task")
    assert caught.value.status == 404


def test_the_async_twin_does_the_same(server: Up, tasks: list[DemoTask], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "digits", tasks[3])

    async def everything() -> None:
        async with AsyncClient(server.address) as client:
            assert await client.ready()
            task = await client.submit(folder, name="async")
            assert (await client.wait(task)).state == "consolidated"
            pairs = [(example.image, example.label) for example in tasks[3].train]
            again = await client.submit(pairs, idempotency_key="async")
            assert (await client.task(again)).id == again.id
            assert again.id in {task.id for task in await client.tasks()}
            [newest] = await client.tasks("consolidated", limit=1)
            assert newest.state == "consolidated"
            images = [example.image for example in tasks[3].test]
            answers = await asyncio.gather(*(client.classify(image, tmax=1) for image in images))
            assert all(set(answer.steps) == {1} for answer in answers)
            assert len(await client.classify_many(images)) == len(images)
            in_full = await client.classify(images[0])
            assert (await client.feedback(in_full, "corrected")).labels == ("corrected",)
            newest = (await client.versions())[0]
            assert (await client.version(newest.version)).labels == newest.labels
            assert (await client.activate(newest.version)).version == newest.version

    asyncio.run(everything())


def test_a_lost_task_ends_the_waiting(server: Up, client: Client, tasks: list[DemoTask]) -> None:
    trainer = trainer_of(server.process, server.store)
    assert trainer, "0 would be this process and all beside it"
    os.kill(trainer, signal.SIGSTOP)
    try:
        task = client.submit([(tasks[4].train[0].image, "8")], "never learned")
        assert client.remove(task.id).state == "cancelled"
    finally:
        os.kill(trainer, signal.SIGCONT)
    with pytest.raises(TaskFailed, match="cancelled"):
        client.wait(task)


def test_a_task_of_no_images_is_refused_before_it_is_sent() -> None:
    with Client("http://127.0.0.1:9", retries=0) as nobody, pytest.raises(ValueError, match="no images"):
        nobody.submit([])


def test_nobody_there() -> None:
    with Client("http://127.0.0.1:9", retries=1) as client:
        with pytest.raises(Unreachable):
            client.tasks()
        assert not client.ready()
