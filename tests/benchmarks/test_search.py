"""The short search is the whole one over fewer slots."""

from __future__ import annotations

import pytest
import torch

from benchmarks.search import compare, pools, shortlist, trail
from model.budget import BudgetBatch
from model.deliberation import LoopConfig, deliberate, normalise, seed_query

LOOP = LoopConfig(topk=5)


def test_without_a_limit_it_is_the_loop_itself() -> None:
    memory = pools(60, 24, LOOP)["values_unlike_keys"]
    x = torch.randn(4, 7, 24, generator=torch.Generator().manual_seed(2))
    slots, vectors = trail(seed_query(x), memory, LOOP, torch.zeros(1, 1, 60))
    found = deliberate(x, memory, BudgetBatch.repeat(LOOP.budget, 4), LOOP)
    assert torch.equal(slots, found.slots)
    torch.testing.assert_close(vectors, found.vectors)


def test_a_shortlist_of_all_slots_costs_nothing_and_a_short_one_keeps_to_itself() -> None:
    query = normalise(torch.randn(4, 1, 24, generator=torch.Generator().manual_seed(2)))
    for memory in pools(60, 24, LOOP).values():
        assert compare(query, memory, LOOP, 60)["same_slots"] == [1, 1, 1, 1]
        near = shortlist(query, memory, 8)
        assert near.isfinite().sum(dim=2).tolist() == [[8]] * 4
        slots, _ = trail(query, memory, LOOP, near)
        assert near.gather(2, slots.flatten(1).unsqueeze(1)).isfinite().all()
        assert compare(query, memory, LOOP, 8)["same_slots"][0] == 1


def test_feedback_that_asks_for_something_else_leaves_the_shortlist() -> None:
    query = normalise(torch.randn(16, 1, 48, generator=torch.Generator().manual_seed(2)))
    found = {name: compare(query, memory, LOOP, 40) for name, memory in pools(400, 48, LOOP).items()}
    assert found["values_unlike_keys"]["same_slots"][3] < found["values_like_keys"]["same_slots"][3]
    assert found["values_like_keys"]["cosine"][3] == pytest.approx(1, abs=0.1)
