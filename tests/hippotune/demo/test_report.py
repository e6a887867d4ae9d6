"""The figures of continual learning, against matrices worked out by hand."""

from __future__ import annotations

import pytest

from hippotune.demo.report import Report, average_accuracy, forgetting, taken_for_unknown
from hippotune.latency import Latency

MATRIX = [[1.0], [0.9, 0.8], [0.7, 0.9, 0.5]]


def test_average_accuracy_is_that_of_the_last_row() -> None:
    assert average_accuracy(MATRIX) == pytest.approx((0.7 + 0.9 + 0.5) / 3)


def test_forgetting_counts_from_each_tasks_best() -> None:
    assert forgetting(MATRIX) == pytest.approx(((1.0 - 0.7) + (0.8 - 0.9)) / 2)


def test_one_task_cannot_be_forgotten() -> None:
    assert forgetting([[0.3]]) == 0


def test_what_is_taken_for_unknown_is_a_share_of_what_was_told() -> None:
    assert taken_for_unknown([0.001, None, 0.5, 0.01, 0.0099]) == 0.5
    assert taken_for_unknown([None]) is None


def test_the_document_has_its_keys() -> None:
    found = Latency(p50=1.0, p99=2.0, mean=1.2, per_second=800.0, failed=0, keep=1.0)
    report = Report(MATRIX, [1.0] * 3, [2.0] * 3, {1: found, 4: found}, 0.9, None, failed_requests=0)
    assert set(report.document()) == {
        "average_accuracy",
        "forgetting",
        "matrix",
        "seconds_to_served",
        "seconds_to_consolidated",
        "latency_ms",
        "unknown_before",
        "unknown_after",
        "failed_requests",
    }
    assert report.document()["latency_ms"] == {
        "tmax1": {"p50": 1.0, "p99": 2.0},
        "tmax4": {"p50": 1.0, "p99": 2.0},
    }
