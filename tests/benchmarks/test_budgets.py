"""The curves are what a classifier really answers and takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="the onnx runtime comes with the extras cpu and gpu")

from benchmarks import budgets
from benchmarks.budgets import (
    KNOBS,
    Judged,
    answers,
    curves,
    judge,
    relative_time,
    settings,
    share,
    table,
)
from benchmarks.report.plots import knobs
from benchmarks.serving.page import page
from model.backbone import BackboneIdentity
from model.budget import Budget
from model.checkpoint import Checkpoint
from model.deliberation import LoopConfig
from model.head import Head
from model.pools import Pools
from service.runtimes.base import Output
from tests.benchmarks.clock import stop_the_clock


class Reader:
    """Answers with the class that the first pixel names; takes its time for every token kept."""

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
        time.sleep(0.004 * budgets[0].keep)
        scores = np.eye(3, dtype=np.float32)[pixels[:, 0, 0, 0]]
        steps = np.array([[budget.tmax] * 7 for budget in budgets])
        return Output(
            scores, np.ones(len(pixels), np.float32), steps, np.zeros((len(pixels), 4), np.float32), ()
        )


def version() -> Checkpoint:
    loop = LoopConfig()
    return Checkpoint(
        BackboneIdentity("x", 8, ""),
        loop,
        Pools.empty(loop, 4),
        Head.blank(4),
        ("a", "b", "c"),
    )


def test_accuracy_is_the_share_answered_rightly_and_steps_are_those_taken() -> None:
    pixels = np.zeros((10, 3, 8, 8), np.uint8)
    pixels[:, 0, 0, 0] = [0, 1, 2] * 3 + [0]
    judged = Judged(pixels, ["a", "b", "c"] * 3 + ["b"])
    best, steps = answers(Reader(), version(), judged, Budget(tmax=2))
    assert (share(best, judged.labels), steps) == (0.9, 2.0)


def test_time_is_relative_to_the_full_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_clock(monkeypatch, budgets)
    reader, pixels = Reader(), np.zeros((1, 3, 8, 8), np.uint8)
    half = relative_time((reader, Budget(keep=0.5)), (reader, Budget()), pixels, rounds=10)
    assert half == pytest.approx(0.5)


def test_every_knob_starts_at_the_full_budget_and_is_one() -> None:
    full = LoopConfig().budget
    for knob, values in KNOBS.items():
        assert replace(full, **{knob: values[0]}) == full
        assert settings(full)[knob][0] == full


def test_a_curve_says_of_each_setting_what_was_told_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_the_clock(monkeypatch, budgets)
    pixels = np.zeros((3, 3, 8, 8), np.uint8)
    told = judge(Reader(), version(), Judged(pixels, ["a", "a", "b"]))
    rows = curves(Reader(), version().loop.budget, told, pixels, rounds=2)
    assert [row["tmax"] for row in rows["tmax"]] == [4, 3, 2, 1]
    assert [row["steps"] for row in rows["tmax"]] == [4, 3, 2, 1]
    assert {row["accuracy"] for row in rows["keep"]} == {2 / 3}
    assert rows["keep"][0]["time_batch_1"] == 1
    assert rows["keep"][-1]["time_batch_1"] == pytest.approx(KNOBS["keep"][-1])


def test_the_table_has_a_row_a_setting_and_the_full_budget_once() -> None:
    full = {"tmax": 4, "keep": 1.0, "accuracy": 0.9, "steps": 4.0, "time_batch_1": 1.0, "time_batch_8": 1.0}
    half = {"keep": 0.5, "accuracy": 0.875, "steps": 4.0, "time_batch_1": 0.75, "time_batch_8": 0.7}
    slow = {**half, "time_batch_1": 0.8}
    curves = {"torch": {"tmax": [full], "keep": [full, half]}, "onnx": {"tmax": [full], "keep": [full, slow]}}
    assert table(curves).splitlines()[2:] == [
        "| full | 90.0 % | 4.00 | 1.00x | 1.00x | 1.00x | 1.00x |",
        "| keep 0.5 | 87.5 % | 4.00 | 0.75x | 0.70x | 0.80x | 0.70x |",
    ]


def test_the_page_shows_the_knobs(tmp_path: Path) -> None:
    rows = [
        {"keep": keep, "accuracy": right, "steps": 4.0, "time_batch_1": keep, "time_batch_8": keep}
        for keep, right in ((1.0, 0.75), (0.5, 0.7))
    ]
    document = {
        "machine": {"processor": "a CPU", "load": 0.25},
        "threads": 2,
        "date": "2026-01-01",
        "command": "python -m benchmarks.budgets",
        "backbone": "a_vit",
        "curves": {"onnx": {"keep": rows}},
    }
    text = page(budgets=document)
    assert "| keep 0.5 | 70.0 % | 4.00 | 0.50x | 0.50x |" in text
    knobs({"keep": rows}, tmp_path / "budgets.svg")
    assert (tmp_path / "budgets.svg").stat().st_size > 1000
