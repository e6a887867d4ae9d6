from __future__ import annotations

import pytest
import torch

from model.deliberation import LoopConfig
from model.pools import GrowingPools, Pools


def test_growing_leaves_old_slots_bitwise_equal_after_training(pools: Pools, loop: LoopConfig) -> None:
    growing = GrowingPools(pools, torch.randn(7, 3, 48), torch.randn(7, 3, 48))
    optimizer = torch.optim.Adam(growing.parameters(), lr=0.1)
    for _ in range(3):
        loss = sum(sum(part.square().sum() for part in m) for m in growing.memories(loop))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    grown = growing.freeze("c")
    assert torch.equal(grown.keys[:, :12], pools.keys)
    assert torch.equal(grown.values[:, :12], pools.values)
    assert grown.slot_tasks == pools.slot_tasks + ("c",) * 3
    assert not torch.equal(grown.feedback, pools.feedback)
    torch.testing.assert_close(grown.keys.norm(dim=-1), torch.ones(7, 15))


def test_what_was_trained_is_what_is_frozen(pools: Pools, loop: LoopConfig) -> None:
    growing = GrowingPools(pools, torch.randn(7, 3, 48), torch.randn(7, 3, 48))
    for trained, frozen in zip(growing.memories(loop), growing.freeze("c").memories(loop), strict=True):
        assert torch.equal(trained.addresses, frozen.addresses)
        assert torch.equal(trained.echoes, frozen.echoes)


def test_a_tasks_slots_can_be_taken_out(pools: Pools) -> None:
    less = pools.without("a")
    assert less.slot_tasks == ("b",) * 6
    assert torch.equal(less.keys, pools.keys[:, 6:])


def test_parts_that_do_not_belong_together_are_refused(pools: Pools) -> None:
    with pytest.raises(ValueError, match="do not belong"):
        Pools(pools.keys, pools.values[:, 1:], pools.feedback, pools.slot_tasks)
    with pytest.raises(ValueError, match="slot owners"):
        Pools(pools.keys, pools.values, pools.feedback, ("a",))
