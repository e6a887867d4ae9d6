"""The loop: query, retrieve, feed back - a few times over, inside one layer.

HippoTune (ICLR 2026) lets a frozen transformer layer consult a small associative memory before it attends. The
names in the margins are the paper's: entorhinal cortex (EC) asks, dentate gyrus (DG) separates patterns, CA3
recalls and feeds back, CA1 hands the result to the layer (that last step is `model.fusion`).

Read it top to bottom. Shapes: B samples, N tokens, d channels, M slots, k slots kept, T steps.

    q_1   = LN(mean of the layer's tokens)                  EC   seed query
    S_t   = softmax(cos(q_t, K) / temperature), top-k kept  DG   pattern separation
    v_t   = S_t V                                           CA3  recall
    q_t+1 = LN(alpha q_t + (1 - alpha) LN(P v_t))           CA3  feedback

Two decisions the paper leaves open:

* The scores are cosines. A normalised query has length sqrt(d) and a key length 1, so `q K^T` grows with the width
  of the backbone and T = 0.1 would mean another sharpness for every one. Dividing by sqrt(d) removes that.
* The softmax runs over the kept slots only, so the weights of a sample always sum to one. Cutting after a softmax
  over all slots would shrink v_t by whatever the cut slots held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.budget import TMAX, TOPK, Budget, BudgetBatch


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """The shape of the loop, fixed for the life of a set of pools.

    layers: blocks that deliberate, counted from 1 as in the paper.
    tmax: steps the pools are trained for, and the most a request may ask.
    alpha: share of the old query that a step keeps; 1 asks the same question every time.
    temperature: sharpness of retrieval, in units of cosine similarity.
    topk: slots mixed by default.
    """

    layers: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    tmax: int = TMAX
    alpha: float = 0.5
    temperature: float = 0.1
    topk: int = TOPK

    def __post_init__(self) -> None:
        if not self.layers or min(self.layers) < 1 or list(self.layers) != sorted(set(self.layers)):
            raise ValueError(
                f"layers is {self.layers}; it must name different blocks in order, counted from 1"
            )
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must lie in 0..1")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be positive")
        Budget(tmax=self.tmax, topk=self.topk)  # raises on its own fields

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> LoopConfig:
        """What `asdict` made of one, be it by way of JSON. Raises KeyError, TypeError and ValueError."""
        return cls(**{**facts, "layers": tuple(facts["layers"])})

    @property
    def budget(self) -> Budget:
        """What a request gets that asks for nothing: full depth, no early stop."""
        return Budget(tmax=self.tmax, epsilon=0.0, topk=self.topk)


class Memory(NamedTuple):
    """One layer's pool as the loop reads it; see `remember`.

    addresses: [d, M], unit keys over temperature and sqrt(d).
    values: [M, d], V, what each slot recalls.
    echoes: [M, d], P times the value, what each slot feeds back.
    """

    addresses: Tensor
    values: Tensor
    echoes: Tensor

    @property
    def slots(self) -> int:
        """M"""
        return self.values.shape[0]


class Recall(NamedTuple):
    """What one layer's loop found.

    vectors: [B, T, d], v_1 .. v_T.
    used: [B, T] bool, which steps each sample really took; None when every sample took all of them.
    weights: [B, T, k], S_1 .. S_T over the kept slots, best first.
    slots: [B, T, k] int64, which slots those are.
    queries: [B, T, d], q_1 .. q_T.
    """

    vectors: Tensor
    used: Tensor | None
    weights: Tensor
    slots: Tensor
    queries: Tensor


def remember(keys: Tensor, values: Tensor, feedback: Tensor, config: LoopConfig) -> Memory:
    """Lay out a pool for the loop: keys [M, d] (unit rows), values [M, d], feedback P [d, d].

    P is linear, so P(S V) = S(V P^T): projecting the slots once leaves the loop free of d x d products.
    """
    scale = config.temperature * keys.shape[-1] ** 0.5
    return Memory(keys.mT / scale, values, values @ feedback.mT)


def seed_query(x: Tensor) -> Tensor:
    """q_1 = LN(mean over tokens), x: [B, N, d] -> [B, 1, d].

    The mean, not the CLS token: what enters block 1 as CLS is the same for every image.
    """
    return normalise(x.mean(dim=1, keepdim=True))


def separate(query: Tensor, memory: Memory, width: int, beyond: Tensor | None) -> tuple[Tensor, Tensor]:
    """S_t: softmax over the `width` best slots, query [B, 1, d] -> weights and slots, [B, 1, k] each.

    beyond: [B, 1, k], -inf at the ranks a sample's own topk does not reach, 0 elsewhere; None cuts nobody.
    """
    scores, slots = (query @ memory.addresses).topk(width, dim=-1)  # [B, 1, k]
    if beyond is not None:
        scores = scores + beyond
    return scores.softmax(dim=-1), slots


def recall(weights: Tensor, slots: Tensor, contents: Tensor) -> Tensor:
    """S_t V: weights [..., 1, k], slots [..., k], contents [M, d] -> [..., 1, d]."""
    return weights @ F.embedding(slots, contents)  # [..., 1, k] @ [..., k, d]


def feed_back(query: Tensor, echo: Tensor, alpha: float) -> Tensor:
    """q_t+1 = LN(alpha q_t + (1 - alpha) LN(P v_t)), all [B, 1, d].

    Written divided by alpha, which the outer LN takes out again: the one factor left is the scale of the inner LN.
    """
    if alpha == 0:
        return normalise(echo)
    return normalise(query + normalise(echo, (1 - alpha) / alpha))


def deliberate(
    x: Tensor, memory: Memory, budgets: BudgetBatch, config: LoopConfig, bptt: int | None = None
) -> Recall:
    """Run the loop for a batch of token sequences x [B, N, d] over one layer's memory.

    A sample leaves at its own tmax, or after a step that moved its recall by less than its epsilon. What it would
    have recalled afterwards is still computed, for the batch's sake, and marked unused.

    bptt: how many last steps pass a gradient back to each other (truncated back-propagation); those before learn from
        what each of them recalled alone. None lets all pass it.
    """
    width = min(budgets.width, memory.slots)
    beyond = None if budgets.uniform else ranks_beyond(budgets.topk, width)  # [B, 1, k]
    query = seed_query(x)  # [B, 1, d]
    trail = []
    for t in range(budgets.steps):
        if bptt is not None and 0 < t <= budgets.steps - bptt:
            query = query.detach()
        weights, slots = separate(query, memory, width, beyond)  # [B, 1, k] each
        trail.append((weights, slots, query))
        if t + 1 < budgets.steps:
            echo = recall(weights, slots.squeeze(1), memory.echoes)  # [B, 1, d], P v_t
            query = feed_back(query, echo, config.alpha)  # [B, 1, d]
    together = (torch.cat(steps, dim=1) for steps in zip(*trail, strict=True))
    weights, slots, queries = together  # [B, T, .] each
    vectors = recall(weights.unsqueeze(2), slots, memory.values).squeeze(2)  # [B, T, d], v_1 .. v_T
    used = None if budgets.uniform else steps_used(vectors, budgets)  # [B, T]
    return Recall(vectors, used, weights, slots, queries)


def ranks_beyond(topk: Tensor, width: int) -> Tensor:
    """[B] budgets -> [B, 1, k] additive mask: -inf from rank topk on."""
    ranks = torch.arange(width, device=topk.device)  # [k]
    return torch.where(ranks >= topk[:, None, None], float("-inf"), 0.0)


def steps_used(vectors: Tensor, budgets: BudgetBatch) -> Tensor:
    """v_1 .. v_T [B, T, d] -> [B, T] bool: the steps before tmax and up to the first that moved less than epsilon."""
    moved = vectors.diff(dim=1).norm(dim=-1)  # [B, T-1], |v_t - v_t-1| of v_2 .. v_T
    small = moved < budgets.epsilon.unsqueeze(1)  # [B, T-1]
    halted = F.pad(small, (2, 0))[:, :-1]  # [B, T], whether the step before was too small
    steps = torch.arange(vectors.shape[1], device=vectors.device)  # [T]
    return (halted.cumsum(dim=1) == 0) & (steps < budgets.tmax.unsqueeze(1))


def normalise(x: Tensor, scale: float | None = None) -> Tensor:
    """Layer normalisation over the last of [..., d]: zero mean, length sqrt(d), or `scale` times that."""
    weight = None if scale is None else x.new_full(x.shape[-1:], scale)
    return F.layer_norm(x, x.shape[-1:], weight)
