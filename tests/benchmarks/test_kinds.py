"""Every class of every kind can be drawn, the same anew from the same seed, and its images differ."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the benchmarks come with the extra dev")

from benchmarks.kinds.__main__ import drawn, parted, table
from benchmarks.kinds.draw import KINDS
from benchmarks.kinds.drawing import SIDE, Draw


@pytest.mark.parametrize(
    "draw",
    [pytest.param(draw, id=f"{kind}-{name}") for kind, of in KINDS.items() for name, draw in of.items()],
)
def test_a_class_is_drawn_again_from_its_seed_and_otherwise_anew(draw: Draw) -> None:
    one, same, other = (np.asarray(draw(np.random.default_rng(seed))) for seed in (0, 0, 1))
    assert one.shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.05


def test_classes_come_in_two_tasks_and_none_twice() -> None:
    first, second = parted(drawn(KINDS["cells"], images=2, px=32, seed=0))
    assert set(first.labels) == {"few", "many", "long"}
    assert set(second.labels) == {"some", "small", "large"}
    assert first.pixels.shape == (6, 3, 32, 32)


def test_a_row_tells_each_share() -> None:
    figures = {"kinds": {"cells": {"classes": 6, "right": {"hippotune": 0.5, "without slots": 0.25}}}}
    assert table(figures).splitlines()[-1] == "| cells | 6 | 50.0 | 25.0 |"
