"""Each figure against a matrix worked out by hand."""

from __future__ import annotations

import pytest
import torch

from benchmarks.continual.metrics import (
    Probe,
    accuracy,
    average_anytime_accuracy,
    backward_transfer,
    expected_calibration_error,
    forgetting,
    last_accuracy,
    minimum_accuracy,
    minimum_at_task_ends,
    worst_case_accuracy,
)
from benchmarks.continual.observer import is_due

MATRIX = [[80.0], [90.0, 70.0], [60.0, 75.0, 50.0]]


def test_accuracy_is_the_mean_over_the_tasks_learned_by_then() -> None:
    assert accuracy(MATRIX) == pytest.approx([80, 80, 185 / 3])
    assert last_accuracy(MATRIX) == pytest.approx(185 / 3)
    assert average_anytime_accuracy(MATRIX) == pytest.approx((80 + 80 + 185 / 3) / 3)


def test_forgetting_counts_from_the_best_before_the_last_task() -> None:
    assert forgetting(MATRIX) == pytest.approx(((90 - 60) + (70 - 75)) / 2)


def test_backward_transfer_counts_from_when_a_task_was_learned() -> None:
    assert backward_transfer(MATRIX) == pytest.approx(((60 - 80) + (75 - 70)) / 2)


def test_the_worst_finished_state_is_that_after_any_later_task() -> None:
    matrix = [[80.0], [60.0, 70.0], [65.0, 75.0, 50.0]]
    assert minimum_at_task_ends(matrix) == pytest.approx((60 + 70) / 2)


def test_calibration_compares_how_sure_answers_are_with_how_often_they_are_right() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4], [1.0, 0.0]])
    right = torch.tensor([True, False, True, True, True])
    # 0.9 twice, right once: off by 0.4 each; 0.6 twice, right twice: 0.4 each; 1.0 once and right.
    assert expected_calibration_error(scores, right) == pytest.approx(100 * (4 * 0.4) / 5)


def test_one_task_forgets_nothing() -> None:
    assert forgetting([[50.0]]) == backward_transfer([[50.0]]) == 0


def test_the_worst_moment_counts_only_once_a_task_is_learned() -> None:
    probes = [
        Probe(1, 1, (40.0,)),
        Probe(1, 2, (90.0,)),
        Probe(2, 1, (55.0, 30.0)),
        Probe(2, 2, (60.0, 75.0)),
    ]
    assert minimum_accuracy(probes, tasks=3) == pytest.approx((40 + 30) / 2)
    assert worst_case_accuracy(probes, MATRIX) == pytest.approx(50 / 3 + 2 / 3 * 35)


def test_probes_are_dense_after_a_switch() -> None:
    assert [step for step in range(1, 100) if is_due(step, 32)] == [1, 2, 4, 8, 16, 32, 64, 96]
