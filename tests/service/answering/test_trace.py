"""The plane on which a query's way is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from service.answering.trace import flatten


def test_a_way_in_a_plane_keeps_its_distances() -> None:
    random = np.random.default_rng(0)
    plane = np.linalg.qr(random.normal(size=(16, 2)))[0].T  # [2, d], orthonormal
    points = (random.normal(size=(4, 2)) @ plane + 3).astype(np.float32)  # [T, d]
    path = flatten(points)
    assert path.shape == (4, 2)
    assert path[0] == pytest.approx([0, 0])
    between = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert np.linalg.norm(path[:, None] - path[None], axis=-1) == pytest.approx(between, abs=1e-4)


def test_the_same_way_is_drawn_the_same_way_up() -> None:
    points = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    assert flatten(points) == pytest.approx(flatten(np.ascontiguousarray(points[:, ::-1])), abs=1e-5)
    assert all(column[np.abs(column).argmax()] > 0 for column in flatten(points).T)


def test_a_single_query_stays_where_it_is() -> None:
    assert flatten(np.ones((1, 8), dtype=np.float32)).tolist() == [[0, 0]]
