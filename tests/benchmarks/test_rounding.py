"""What is told of runtimes that round is what they answer, and how long they take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="the onnx runtime comes with the extras cpu and gpu")

from benchmarks import budgets
from benchmarks.budgets import Judged
from benchmarks.rounding import accuracies, table, times
from benchmarks.serving.page import page
from model.budget import Budget
from service.runtimes.base import Output
from tests.benchmarks.clock import stop_the_clock
from tests.benchmarks.test_budgets import Reader, version


class Stubborn(Reader):
    """Sees the first class everywhere."""

    def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
        return super().classify(np.zeros_like(pixels), budgets, explain)


def test_a_runtime_is_judged_by_the_labels_and_by_the_exact_one() -> None:
    pixels = np.zeros((4, 3, 8, 8), np.uint8)
    pixels[:, 0, 0, 0] = [0, 0, 1, 2]
    found = accuracies(
        {"onnx": Reader(), "rounded": Stubborn()}, version(), Judged(pixels, ["a", "b", "b", "c"])
    )
    assert found == {
        "onnx": {"accuracy": 0.75, "agreement": 1},
        "rounded": {"accuracy": 0.25, "agreement": 0.5},
    }


def test_time_is_relative_to_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_clock(monkeypatch, budgets)

    class Quick(Stubborn):
        def classify(self, pixels: NDArray[np.uint8], budgets: Sequence[Budget], explain: bool) -> Output:
            return super().classify(pixels, [Budget(keep=0.5)] * len(budgets), explain)

    found = times({"onnx": Stubborn(), "quick": Quick()}, 8, Budget(), rounds=10)
    assert set(found) == {"quick"}
    assert list(found["quick"].values()) == pytest.approx([0.5] * len(found["quick"]))


def test_the_page_has_a_row_a_runtime() -> None:
    document = {
        "machine": {"processor": "a CPU", "load": 0.25},
        "threads": 2,
        "date": "2026-01-01",
        "command": "python -m benchmarks.rounding",
        "backbone": "a_vit",
        "accuracy": {
            "roses": {
                "onnx": {"accuracy": 0.75, "agreement": 1.0},
                "torch-bf16": {"accuracy": 0.745, "agreement": 0.98},
            }
        },
        "time": {"a_vit": {"torch-bf16": {"batch_1": 0.8, "batch_8": 0.7}}},
    }
    text = page(rounded=document)
    assert table(document) in text
    assert "| onnx | 75.0 % | 100.0 % | 1 | 1 |" in text
    assert "| torch-bf16 | 74.5 % | 98.0 % | 0.80x | 0.70x |" in text
