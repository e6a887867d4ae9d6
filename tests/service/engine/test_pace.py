"""The live model of how long a pass takes, and the budget it chooses."""

from __future__ import annotations

import asyncio
from time import perf_counter
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from model.budget import Budget
from service.engine.batching import Engine
from service.engine.pace import KEEPS, Pace
from service.engine.snapshot import Asked, Served, Snapshot
from service.engine.tickets import Ticket
from service.metrics import Metrics


def seconds(images: int, keep: float = 1.0) -> float:
    """A machine that takes 2 ms a pass and 10 ms an image, and saves 60 % of what is merged away."""
    return (0.002 + 0.010 * images) * (1 - 0.6 * (1 - keep))


def used(passes: int) -> Pace:
    pace = Pace()
    for turn in range(passes):
        keep, images = KEEPS[turn % len(KEEPS)], 1 + turn % 7
        pace.observe(keep, images, seconds(images, keep))
    return pace


def test_it_learns_the_machine_it_runs_on() -> None:
    pace = used(400)
    for images in (1, 4, 7, 20):
        for keep in KEEPS:
            assert pace.expect(keep, images) == pytest.approx(seconds(images, keep), rel=0.05)


def test_it_follows_a_machine_that_becomes_slower() -> None:
    pace = used(400)
    for turn in range(100):
        pace.observe(1.0, 1 + turn % 7, 3 * seconds(1 + turn % 7))
    assert pace.expect(1.0, 4) == pytest.approx(3 * seconds(4), rel=0.05)
    assert pace.expect(0.5, 4) == pytest.approx(3 * seconds(4, 0.5), rel=0.1)


def test_one_size_alone_is_taken_to_be_proportional() -> None:
    pace = Pace()
    pace.observe(1.0, 4, 0.08)
    assert pace.expect(1.0, 8) == pytest.approx(0.16)


def test_the_deepest_budget_that_is_expected_to_end_in_time() -> None:
    pace, budget = used(400), Budget(tmax=3)
    assert pace.deepest(budget, 4, 1.0).keep == 1
    between = 1.1 * (seconds(4, 0.8) + seconds(4, 0.9)) / 2
    assert pace.deepest(budget, 4, between) == Budget(tmax=3, keep=0.8)
    assert pace.deepest(budget, 4, -1.0).keep == 0.5
    assert pace.deepest(Budget(keep=0.7), 4, 1.0).keep == 0.7


def test_a_share_between_those_tried_is_kept_where_there_is_time_for_it() -> None:
    pace, budget = used(400), Budget(keep=0.75)
    assert pace.expect(0.75, 4) == pytest.approx(seconds(4, 0.75), rel=0.05)
    assert pace.deepest(budget, 4, 1.0).keep == 0.75
    assert pace.deepest(budget, 4, 1.1 * (seconds(4, 0.7) + seconds(4, 0.75)) / 2).keep == 0.7
    assert pace.deepest(budget, 4, -1.0).keep == 0.5


def test_before_anything_was_observed_nothing_is_held_back() -> None:
    assert Pace().deepest(Budget(), 32, 0.001).keep == 1


def test_passes_that_grow_faster_than_their_images_are_still_expected_to_take_time() -> None:
    pace = Pace()
    for _ in range(4):
        for images, took in ((1, 0.016), (8, 0.13), (32, 1.0)):
            pace.observe(1.0, images, took)
    assert pace.expect(1.0, 1) > 0
    pace.observe(0.5, 1, 0.01)
    assert 0 < pace.expect(0.5, 1) < 1


def test_a_request_that_is_set_aside_chooses_its_share_when_its_turn_comes() -> None:
    pace = Pace()
    pace.observe(1.0, 1, 10.0)
    engine = Engine(Served(), 8, 8, Metrics(), pace)
    images, version = (
        [np.zeros((3, 8, 8), np.uint8)],
        cast(Snapshot, SimpleNamespace(grant=lambda _: Budget())),
    )

    async def kept() -> list[float]:
        engine.enqueue(Ticket(images, Asked(), False, version))
        engine.enqueue(Ticket(images, Asked(), False, version, target=perf_counter() + 15))
        batches = engine._take(), engine._take()
        return [budget.keep for batch in batches if batch for budget in batch.budgets]

    # Both at once would take 20 s, so the second goes by itself; alone it takes 10, and keeps everything.
    assert asyncio.run(kept()) == [1.0, 1.0]
