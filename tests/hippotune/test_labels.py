"""Classes renamed and forgotten through real processes, one of which is killed on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from hippotune import Client
from hippotune.demo.data import DemoTask
from tests.hippotune.conftest import Starter, trainer_of


def test_a_class_is_renamed_and_another_forgotten_while_the_trainer_is_killed(
    start: Starter, tasks: list[DemoTask], tmp_path: Path
) -> None:
    image = tasks[0].test[0].image
    with (
        start(tmp_path / "store") as up,
        Client(up.address) as client,
        httpx.Client(base_url=up.address) as http,
    ):
        task = client.wait(client.submit([(e.image, e.label) for e in tasks[0].train], "zero and one"))
        learned = task.version
        assert learned is not None
        before = {one.label: one.score for one in client.classify(image).predictions}
        renaming = http.patch("/labels/0", json={"label": "zero/null"}).json()
        *_, renamed = client.watch(renaming["id"])
        assert (renamed.state, renamed.error) == ("consolidated", None)
        while (answer := client.classify(image)).version != renamed.version:
            pass
        scores = {one.label: one.score for one in answer.predictions}
        assert scores == pytest.approx({"zero/null": before["0"], "1": before["1"]}, abs=1e-5)
        os.kill(trainer_of(up.process, up.store), signal.SIGKILL)
        forgetting = http.delete("/labels/1").json()
        *_, forgotten = client.watch(forgetting["id"])
        assert (forgotten.state, forgotten.error) == ("consolidated", None)
        listed = http.get("/labels").json()
        assert [(one["label"], one["tasks"]) for one in listed["labels"]] == [("zero/null", [task.id])]
        client.activate(learned)
        assert [one["label"] for one in http.get("/labels").json()["labels"]] == ["0", "1"]
