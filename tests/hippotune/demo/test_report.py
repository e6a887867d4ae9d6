"""The figures of continual learning, against matrices worked out by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hippotune.demo.data import DemoTask
from hippotune.demo.report import Report, average_accuracy, forgetting
from hippotune.demo.run import Learned
from hippotune.demo.stage import Stage, show
from hippotune.latency import Latency

MATRIX = [[1.0], [0.9, 0.8], [0.7, 0.9, 0.5]]


def test_average_accuracy_is_that_of_the_last_row() -> None:
    assert average_accuracy(MATRIX) == pytest.approx((0.7 + 0.9 + 0.5) / 3)


def test_forgetting_counts_from_each_tasks_best() -> None:
    assert forgetting(MATRIX) == pytest.approx(((1.0 - 0.7) + (0.8 - 0.9)) / 2)


def test_one_task_cannot_be_forgotten() -> None:
    assert forgetting([[0.3]]) == 0


@pytest.fixture
def report() -> Report:
    found = Latency(p50=1.0, p99=2.0, mean=1.2, per_second=800.0, failed=0, keep=1.0)
    return Report(MATRIX, [1.0] * 3, [2.0] * 3, {1: found, 4: found}, 0.9, None, failed_requests=0)


@pytest.mark.parametrize("name", ["[red] ones", "[/b]", "fd00[::1]"])
def test_names_that_look_like_markup_are_shown_as_they_are(report: Report, name: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    tasks = [DemoTask(name, train=(), test=())] * 3
    with Stage(console) as stage:
        stage.submitted(tasks[0])
        stage.learned(tasks[0], Learned(1.0, 2.0, version=2), [0.5])
    show(console, tasks, report, version=2)
    told = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert f"learned {name}" in told
    assert told.count(name) == 1 + 3 + 3


def test_the_document_has_its_keys(report: Report) -> None:
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
