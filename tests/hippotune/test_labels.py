"""Classes listed, renamed and forgotten by the clients, through real processes; one is killed on the way."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from hippotune import AsyncClient, Client, LabelChange, Refused, calls
from hippotune.demo.data import DemoTask
from tests.hippotune.conftest import Starter, Up, trainer_of

ODD = ("a/b", "50% off?", ".", "..")
"""Labels that are hard to put into a path."""


def test_a_class_is_renamed_and_another_forgotten_while_the_trainer_is_killed(
    start: Starter, tasks: list[DemoTask], tmp_path: Path
) -> None:
    image = tasks[0].test[0].image
    with start(tmp_path / "store") as up, Client(up.address) as client:
        task = client.wait(client.submit([(e.image, e.label) for e in tasks[0].train], "zero and one"))
        learned = task.version
        assert learned is not None
        before = {one.label: one.score for one in client.classify(image).predictions}
        renamed = client.wait(client.rename_label("0", "zero/null"))
        while (answer := client.classify(image)).version != renamed.version:
            pass
        scores = {one.label: one.score for one in answer.predictions}
        assert scores == pytest.approx({"zero/null": before["0"], "1": before["1"]}, abs=1e-5)
        trainer = trainer_of(up.process, up.store)
        assert trainer, "0 would be this process and all beside it"
        os.kill(trainer, signal.SIGKILL)
        assert client.wait(client.forget_label("1")).error is None
        assert [(one.label, one.tasks) for one in client.labels()] == [("zero/null", (task.id,))]
        client.activate(learned)
        assert [one.label for one in client.labels()] == ["0", "1"]


@pytest.fixture(scope="module")
def taught(server: Up, tasks: list[DemoTask]) -> str:
    """Id of the task that taught odd labels to the shared server, an image each."""
    with Client(server.address) as client:
        pairs = [(e.image, label) for e, label in zip(tasks[2].train, ODD, strict=False)]
        return client.wait(client.submit(pairs, "odd")).id


def known(client: Client, contains: str = "") -> list[str]:
    return [one.label for one in client.labels(contains)]


def test_labels_are_listed_however_many_there_are(
    client: Client, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(ODD) < set(known(client))
    assert known(client, "OFF") == ["50% off?"]
    [one] = client.labels("a/b")
    assert (one.images, one.tasks) == (1, (taught,))
    older = [one.label for one in client.labels(version=client.versions(labels=False)[-1].version)]
    assert older == ["0", "1"]
    every = known(client)
    for size in (1, len(every), len(every) - 1):
        monkeypatch.setattr(calls, "PAGE", size)
        assert known(client) == every


def test_a_list_that_is_read_on_stays_with_its_version(
    client: Client, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAGE", 1)
    every = known(client)
    reading = client.labels()
    read = [next(reading).label]
    current = next(version.version for version in client.versions(labels=False) if version.current)
    client.activate(client.versions(labels=False)[-1].version)
    read += [one.label for one in reading]
    client.activate(current)
    assert read == every


@pytest.mark.usefixtures("taught")
def test_any_label_can_be_renamed_merged_and_forgotten(client: Client) -> None:
    for number, label in enumerate(ODD):
        order = client.rename_label(label, f"odd {number}")
        assert (order.images, order.change) == (0, LabelChange(label, f"odd {number}"))
        assert client.wait(order).change == order.change
    client.wait(client.rename_label("odd 1", "odd 0"))
    assert [one.images for one in client.labels("odd 0")] == [2]
    for number in (0, 2, 3):
        order = client.wait(client.forget_label(f"odd {number}"))
        assert order.change == LabelChange(f"odd {number}", None)
    assert not known(client, "odd")
    assert client.task(client.tasks("consolidated")[-1].id).change is None
    with pytest.raises(ValueError, match="no label"):
        client.forget_label("")


def test_an_order_given_twice_with_a_key_is_carried_out_once(client: Client, tasks: list[DemoTask]) -> None:
    client.wait(client.submit([(tasks[0].train[0].image, "twice")], "twice"))
    renaming = client.wait(client.rename_label("twice", "once", idempotency_key="rename-twice"))
    assert client.rename_label("twice", "once", idempotency_key="rename-twice").id == renaming.id
    forgetting = client.wait(client.forget_label("once", idempotency_key="forget-once"))
    assert client.forget_label("once", idempotency_key="forget-once").id == forgetting.id
    with pytest.raises(Refused, match="be one that GET /labels lists") as caught:
        client.forget_label("once")
    assert caught.value.status == 404


def test_the_async_twin_lists_renames_and_forgets(
    server: Up, tasks: list[DemoTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAGE", 1)

    async def everything() -> None:
        async with AsyncClient(server.address) as client:
            images = [example.image for example in tasks[1].train[:2]]
            task = await client.submit(zip(images, ("async a", "async b"), strict=True))
            assert (await client.wait(task)).state == "consolidated"
            await client.wait(await client.rename_label("async a", "async c"))
            assert [one.label async for one in client.labels("ASYNC")] == ["async b", "async c"]
            await client.wait(await client.forget_label("async b"))
            assert [(one.label, one.tasks) async for one in client.labels("async")] == [
                ("async c", (task.id,))
            ]

    asyncio.run(everything())
