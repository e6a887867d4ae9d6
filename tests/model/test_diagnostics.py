from __future__ import annotations

import math

import torch

from model.budget import Budget, BudgetBatch
from model.deliberation import LoopConfig, deliberate, feed_back, recall, remember, seed_query, separate
from model.diagnostics import diagnose, spectral_radius, spread
from model.pools import Pools


def test_figures_of_a_loop(pools: Pools, loop: LoopConfig) -> None:
    x = torch.randn(32, 17, 48, generator=torch.Generator().manual_seed(0))
    found = deliberate(x, pools.memories(loop)[0], BudgetBatch.repeat(Budget(4, 0, 5), 32), loop)
    figures = diagnose(found, pools.slots)
    assert len(figures.entropy) == 4
    assert all(0 <= value <= math.log(5) + 1e-5 for value in figures.entropy)
    assert 1 / 12 <= figures.slot_use <= 1
    assert figures.mean_steps == 4
    expected = spread(found.vectors[:, 3]) / spread(found.vectors[:, 0])
    assert math.isclose(figures.spread_ratio, expected.item(), rel_tol=1e-5)


def test_a_collapsing_loop_is_seen() -> None:
    """One slot attracts whatever is asked: after a few steps every sample recalls nearly the same."""
    keys = torch.nn.functional.normalize(
        torch.randn(6, 48, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    values = 10 * keys[:1] + 0.5 * keys
    config = LoopConfig(alpha=0.2, topk=6)
    x = torch.randn(32, 17, 48, generator=torch.Generator().manual_seed(1))
    memory = remember(keys, values, torch.eye(48), config)
    found = deliberate(x, memory, BudgetBatch.repeat(Budget(4, 0, 6), 32), config)
    assert diagnose(found, 6).spread_ratio < 0.5


def test_spectral_radius_agrees_with_the_jacobians_eigenvalues(pools: Pools) -> None:
    config = LoopConfig(temperature=0.3)
    memory = pools.memories(config)[0]
    query = seed_query(torch.randn(3, 17, 48, generator=torch.Generator().manual_seed(0)))
    measured = spectral_radius(query, memory, config, topk=12, iterations=400)

    def step(q: torch.Tensor) -> torch.Tensor:
        weights, slots = separate(q[None, None], memory, 12, None)
        return feed_back(q[None, None], recall(weights, slots.squeeze(1), memory.echoes), config.alpha)[0, 0]

    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(step, query[i, 0])
        assert isinstance(jacobian, torch.Tensor)
        exact = torch.linalg.eigvals(jacobian.double()).abs().max()
        assert math.isclose(measured[i].item(), exact.item(), rel_tol=0.05)
