"""Shares and areas are worked out rightly."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the benchmarks come with the extra dev")

from benchmarks.familiarity import Asked, below, budgets, drawn, told_apart
from model.budget import Budget


def asked(familiarity: list[float], best: list[float]) -> Asked:
    return Asked(np.array(familiarity, np.float32), np.array(best, np.float32), right=0.0)


def test_the_share_below_a_level_leaves_out_the_level_itself() -> None:
    assert below(asked([0.005, 0.02, 0.3, 0.9], [1] * 4)) == {"0.01": 0.25, "0.05": 0.5}


def test_the_area_is_one_where_all_strangers_are_less_familiar() -> None:
    known, strangers = asked([0.5, 0.6], [0.2, 0.9]), asked([0.1, 0.001], [0.95, 0.3])
    assert told_apart(known, strangers) == {
        "below": {"0.01": 0.5, "0.05": 0.5},
        "auc": 1.0,
        "auc_best_score": 0.25,
    }


def test_what_is_drawn_comes_as_pixels_of_the_backbones_size() -> None:
    assert {pixels.shape[1:] for pixels in drawn(32, seed=0).values()} == {(3, 32, 32)}


def test_other_budgets_differ_in_one_knob() -> None:
    full = Budget(4, 0.0, 10)
    assert [(budget.tmax, budget.keep) for budget in budgets(full).values()] == [
        (2, 1.0),
        (1, 1.0),
        (4, 0.8),
        (4, 0.5),
    ]
