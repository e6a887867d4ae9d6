"""Is the loop alive? Figures that show a retrieval that chooses, spreads its slots and does not collapse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.deliberation import LoopConfig, Memory, Recall, feed_back, recall, separate
from model.losses import entropy


@dataclass(frozen=True, slots=True)
class LayerDiagnostics:
    """One layer's loop over a batch.

    entropy: [T] mean H(S_t) in nats.  slot_use: share of the M slots that ever got the largest weight.
    spread_ratio: spread of v_T across the batch over that of v_1; far below 1 means the loop forgets what it was asked.
    mean_steps: steps taken, averaged over the batch.
    """

    entropy: tuple[float, ...]
    slot_use: float
    spread_ratio: float
    mean_steps: float


def diagnose(recall: Recall, slots: int) -> LayerDiagnostics:
    """Figures of one layer whose pool holds `slots` slots. The batch must hold at least two samples."""
    first, last = recall.vectors[:, 0], recall.vectors[:, -1]
    steps = recall.vectors.shape[1] if recall.used is None else recall.used.sum(dim=1).float().mean().item()
    return LayerDiagnostics(
        entropy=tuple(entropy(recall.weights).mean(dim=0).tolist()),
        slot_use=recall.slots[..., 0].unique().numel() / slots,
        spread_ratio=(spread(last) / spread(first).clamp_min(1e-12)).item(),
        mean_steps=float(steps),
    )


def spread(vectors: Tensor) -> Tensor:
    """Root mean squared distance of vectors [B, d] from their mean -> []."""
    return (vectors - vectors.mean(dim=0)).square().sum(dim=1).mean().sqrt()


def step_of(memory: Memory, config: LoopConfig, topk: int) -> Callable[[Tensor], Tensor]:
    """One step of the loop over one layer's memory, as a function of its query: [B, 1, d] -> [B, 1, d]."""

    def step(query: Tensor) -> Tensor:
        weights, slots = separate(query, memory, topk, None)
        return feed_back(query, recall(weights, slots.squeeze(1), memory.echoes), config.alpha)

    return step


def spectral_radius(
    query: Tensor, memory: Memory, config: LoopConfig, topk: int, iterations: int = 100
) -> Tensor:
    """Growth of a small change of the query [B, 1, d] in one step of the loop, by power iteration -> [B].

    The largest |eigenvalue| of the step's Jacobian at that query. Below 1 the step contracts there and repeating it
    approaches a fixed point nearby; at or above 1 nothing is promised. Averaged over the second half of the
    iterations, because a complex leading pair makes single ones oscillate.
    """
    step = step_of(memory, config, topk)
    direction = torch.randn(query.shape, generator=torch.Generator().manual_seed(0)).to(query)
    growth = []
    for _ in range(iterations):
        direction = direction / direction.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        _, direction = torch.autograd.functional.jvp(step, query, direction)
        growth.append(direction.norm(dim=-1).squeeze(1))
    return torch.stack(growth[iterations // 2 :]).log().mean(dim=0).exp()
