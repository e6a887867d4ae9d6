"""The loop with one idea taken out, at the same number of parameters and, where said, of extra attention tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from model.backbone import Backbone
from model.budget import BudgetBatch
from model.deliberation import LoopConfig, Memory, Recall, deliberate, recall, seed_query
from model.network import RetrievalViT

VARIANTS = ("loop", "last", "ranks", "blind", "constant")
"""`loop` is the product's own.  `last`: only v_T joins the attention.  Others: `by_rank`, `blindly`, `constants`."""


class AblatedViT(RetrievalViT):
    """A `RetrievalViT` whose layers consult their memories in another way."""

    def __init__(self, backbone: Backbone, loop: LoopConfig, variant: str) -> None:
        """Raises ValueError for a variant that is none of `VARIANTS`."""
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}; it must be one of {', '.join(VARIANTS)}")
        super().__init__(backbone, loop)
        self.variant = variant

    def consult(self, x: Tensor, memory: Memory, budgets: BudgetBatch, bptt: int | None) -> Recall:
        match self.variant:
            case "ranks":
                return by_rank(x, memory, budgets)
            case "constant":
                return constants(len(x), memory, budgets.steps)
            case "blind":
                return deliberate(blindly(x), memory, budgets, self.loop, bptt)
        found = deliberate(x, memory, budgets, self.loop, bptt)
        return last_step(found) if self.variant == "last" else found


def last_step(found: Recall) -> Recall:
    """The same recall, of which attention sees each sample's last step alone: vectors [B, 1, d]."""
    if found.used is None:
        return found._replace(vectors=found.vectors[:, -1:])
    last = found.used.sum(dim=1) - 1  # [B]
    rows = torch.arange(len(last), device=last.device)
    return found._replace(vectors=found.vectors[rows, last].unsqueeze(1), used=None)


def by_rank(x: Tensor, memory: Memory, budgets: BudgetBatch) -> Recall:
    """One retrieval of as many vectors as the loop would take steps: the t-th mixes the t-th best k slots.

    As many extra tokens as the loop, all from one question. Pools of fewer than T k slots mix fewer at a time.
    Budgets must be uniform.
    """
    if not budgets.uniform:
        raise ValueError("retrieval by rank takes one budget for all, without early stop")
    steps = min(budgets.steps, memory.slots)
    width = min(budgets.width, memory.slots // steps)
    query = seed_query(x)  # [B, 1, d]
    scores, slots = (query @ memory.addresses).topk(steps * width, dim=-1)
    weights = scores.unflatten(2, (steps, width)).softmax(dim=-1).squeeze(1)  # [B, T, k]
    slots = slots.unflatten(2, (steps, width)).squeeze(1)  # [B, T, k]
    vectors = recall(weights.unsqueeze(2), slots, memory.values).squeeze(2)  # [B, T, d]
    return Recall(vectors, None, weights, slots, query.expand(-1, steps, -1))


def blindly(x: Tensor) -> Tensor:
    """One token [B, 1, d] in place of x [B, N, d], the same for every image: the loop asks it instead."""
    question = torch.randn(x.shape[-1], generator=torch.Generator().manual_seed(0)).to(x)
    return question.expand(len(x), 1, -1)


def constants(batch: int, memory: Memory, steps: int) -> Recall:
    """The first T values for every image: no question, no weights; VPT-Deep (Jia et al., ECCV 2022) in our layers."""
    vectors = memory.values[:steps].expand(batch, -1, -1)  # [B, T, d]
    slots = torch.arange(vectors.shape[1], device=vectors.device).expand(batch, -1).unsqueeze(-1)  # [B, T, 1]
    return Recall(vectors, None, vectors.new_ones(slots.shape), slots, torch.zeros_like(vectors))
