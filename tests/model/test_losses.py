from __future__ import annotations

import torch

from model.deliberation import Recall
from model.losses import entropy, orthogonality, retrieval_entropy
from model.pools import Pools


def test_orthogonality_is_the_full_penalty_less_its_constant(pools: Pools) -> None:
    old, new = pools.keys[:, :8], pools.keys[:, 8:]

    def full(keys: torch.Tensor) -> torch.Tensor:
        return (keys @ keys.mT - torch.eye(keys.shape[1])).square().sum()

    torch.testing.assert_close(orthogonality(old, new), full(pools.keys) - full(old))
    axes = torch.eye(48)[:6].repeat(7, 1, 1)
    assert orthogonality(axes[:, :3], axes[:, 3:]) == 0


def test_entropy_is_zero_for_a_choice_and_log_k_for_none() -> None:
    assert entropy(torch.tensor([1.0, 0.0, 0.0])) == 0
    torch.testing.assert_close(entropy(torch.full((4,), 0.25)), torch.tensor(4.0).log())


def test_retrieval_entropy_sums_layers_and_steps_and_averages_samples() -> None:
    layer = Recall(torch.zeros(0), None, torch.full((3, 4, 2), 0.5), torch.zeros(0), torch.zeros(0))
    torch.testing.assert_close(retrieval_entropy([layer, layer]), 8 * torch.tensor(2.0).log())
