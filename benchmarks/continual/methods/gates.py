"""How single-step methods choose prompts: the loop's `separate` has one softmax, these are the published others.

Each gives weights and slots for `model.deliberation.recall`, so that a prompt method is one step of the same
retrieval: query, weights over keys, mixture of values. Every sample chooses for itself; the vote over a batch that
some published code takes uses the other test images' answers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Choice(NamedTuple):
    """weights: [B, N].  slots: [B, N] int64.  distance: [B], which the loss adds, to pull keys to queries."""

    weights: Tensor
    slots: Tensor
    distance: Tensor


def cosine(query: Tensor, keys: Tensor) -> Tensor:
    """[B, d], [M, d] -> [B, M]."""
    return F.normalize(query, dim=-1) @ F.normalize(keys, dim=-1).mT


def nearest(query: Tensor, keys: Tensor, count: int) -> Choice:
    """The `count` keys most like the query, each weighing 1.

    L2P (Wang et al., CVPR 2022), equation 3, and DualPrompt's choice at test: argmin of sum_i gamma(q(x), k_si), gamma
    the cosine distance, which is also the surrogate loss of equation 5.
    """
    similarity, slots = cosine(query, keys).topk(count, dim=-1)  # [B, N]
    return Choice(torch.ones_like(similarity), slots, (1 - similarity).sum(dim=-1))


def given(query: Tensor, keys: Tensor, slot: int) -> Choice:
    """One slot for everybody: DualPrompt (Wang et al., ECCV 2022) trains the task's own, and pulls its key only."""
    slots = torch.full((len(query), 1), slot, device=query.device)
    return Choice(
        torch.ones_like(slots, dtype=query.dtype), slots, 1 - cosine(query, keys[slot : slot + 1])[:, 0]
    )


def attentive(query: Tensor, keys: Tensor, attention: Tensor) -> Choice:
    """All slots, weighing alpha_m = cos(q(x) * A_m, K_m), A: [M, d].

    CODA-Prompt (Smith et al., CVPR 2023), equations 4 and 5. Trained by the classification loss alone: no distance.
    """
    attended = query.unsqueeze(1) * attention  # [B, M, d]
    weights = F.cosine_similarity(attended, keys, dim=-1)  # [B, M]
    slots = torch.arange(len(keys), device=query.device).expand_as(weights)
    return Choice(weights, slots, weights.new_zeros(len(query)))


def orthogonality(rows: Tensor) -> Tensor:
    """|B B^T - I|^2 of rows [M, d] -> []: CODA-Prompt's equation 7, asked of components, keys and attention alike."""
    return (rows @ rows.mT - torch.eye(len(rows), device=rows.device)).square().sum()
