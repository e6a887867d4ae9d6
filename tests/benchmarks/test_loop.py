"""The loop's cost is measured as said, and its work is what the design promises."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="the onnx runtime comes with the extras cpu and gpu")
pytest.importorskip("onnxscript", reason="the onnx runtime comes with the extras cpu and gpu")

from benchmarks import loop
from benchmarks.loop import compare, multiply_adds
from model.budget import Budget
from model.deliberation import LoopConfig
from service.runtimes.base import Output
from tests.benchmarks.clock import stop_the_clock


class Sleeper:
    """Takes its time and answers nothing."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
        time.sleep(self.seconds)
        nothing = np.zeros((len(pixels), 0), np.float32)
        return Output(nothing, np.ones(len(pixels), np.float32), nothing.astype(np.int64), nothing, ())


def test_the_ratio_is_that_of_the_two_times(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_clock(monkeypatch, loop)
    cost = compare(Sleeper(0.002), Sleeper(0.004), px=8, batch=2, budget=Budget(), seconds=0)
    assert cost.rounds == 20
    assert cost.ratio == pytest.approx(2)
    assert (cost.plain_ms, cost.looped_ms) == pytest.approx((2, 4))


@pytest.mark.slow
def test_the_loop_adds_three_thousandths_of_the_work_on_vit_b() -> None:
    counted = multiply_adds(LoopConfig(), slots=100)
    assert counted["plain_g"] == pytest.approx(16.86, abs=0.03)
    assert 1.001 < counted["ratio"] < 1.0035
