"""Budgets: how much a request lets the loop deliberate.

A budget is per sample, never per batch: requests with different budgets share one forward pass, and what a
sample gets does not depend on its batch mates. Only `keep` changes the shape of the tensors, so all samples of a pass
must have the same one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.merging import LEAST_KEEP

TMAX, TOPK = 4, 10
"""Steps and slots where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one request allows the loop in every layer.

    tmax: most retrieval steps, at least 1.
    epsilon: stop early when a step moves the recalled vector by less than this (Euclidean norm); 0 never stops.
    topk: how many slots a step may mix, at least 1.
    keep: share of patch tokens still apart after the transformer's middle, 0.5 to 1; see `model.merging`.
    """

    tmax: int = TMAX
    epsilon: float = 0.0
    topk: int = TOPK
    keep: float = 1.0

    def __post_init__(self) -> None:
        if self.tmax < 1:
            raise ValueError(f"tmax is {self.tmax}; it must be at least 1")
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ValueError(f"epsilon is {self.epsilon}; it must be finite and not negative")
        if self.topk < 1:
            raise ValueError(f"topk is {self.topk}; it must be at least 1")
        if not LEAST_KEEP <= self.keep <= 1:
            raise ValueError(f"keep is {self.keep}; it must lie in {LEAST_KEEP}..1")


@dataclass(frozen=True, slots=True)
class BudgetBatch:
    """The budgets of a batch as tensors, one entry a sample.

    tmax: [B] int64.  epsilon: [B] float32.  topk: [B] int64.
    steps: the most steps any sample may take (the loop's length).
    width: the most slots any sample may mix.
    uniform: every sample runs all `steps` over all `width` slots and never stops early, so nothing needs masking.
    keep: share of patch tokens kept, the same for the whole batch: its tensors must stay rectangular.
    """

    tmax: Tensor
    epsilon: Tensor
    topk: Tensor
    steps: int
    width: int
    uniform: bool
    keep: float = 1.0

    @classmethod
    def of(cls, budgets: Sequence[Budget], device: torch.device | str = "cpu") -> BudgetBatch:
        """Stack budgets, in the order of the samples. Raises ValueError when there are none or `keep` differs."""
        if not budgets:
            raise ValueError("a batch needs at least one budget")
        first = budgets[0]
        if any(b.keep != first.keep for b in budgets):
            raise ValueError(f"keep is {sorted({b.keep for b in budgets})}; one batch takes one value")
        return cls(
            tmax=torch.tensor([b.tmax for b in budgets], device=device),
            epsilon=torch.tensor([b.epsilon for b in budgets], dtype=torch.float32, device=device),
            topk=torch.tensor([b.topk for b in budgets], device=device),
            steps=max(b.tmax for b in budgets),
            width=max(b.topk for b in budgets),
            uniform=first.epsilon == 0 and all(b == first for b in budgets),
            keep=first.keep,
        )

    @classmethod
    def repeat(cls, budget: Budget, batch: int, device: torch.device | str = "cpu") -> BudgetBatch:
        """The same budget for every one of `batch` samples."""
        return cls.of([budget] * batch, device)
