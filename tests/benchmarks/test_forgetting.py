"""What forgetting costs is measured at a running service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.forgetting import QUICK_TASKS, main


@pytest.mark.slow
def test_each_task_and_single_classes_are_forgotten_in_turn_and_the_others_are_asked_again(
    tmp_path: Path,
) -> None:
    main(quick=True, out=tmp_path / "forgetting.json")
    figures = json.loads((tmp_path / "forgetting.json").read_text())
    assert len(figures["forgotten"]) == QUICK_TASKS
    assert figures["highest_accuracy_of_a_forgotten_task"] == 0
    assert [one["label"] for one in figures["forgotten_classes"]] == ["0", "1"]
    assert figures["highest_accuracy_of_a_forgotten_class"] == 0
    assert min(figures["accuracy_of_each_task_before"]) > 0.7
