"""Retrieval pools: the slots each task brought, in every layer that deliberates.

Pools only ever grow at the end. A task's slots are separate parameters while it is learned and become plain rows
when it is done; earlier rows are copied as they are, so they stay bitwise equal for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.deliberation import LoopConfig, Memory, remember


@dataclass(frozen=True, slots=True)
class Pools:
    """All slots of all layers. L layers, M slots a layer, d channels.

    keys: [L, M, d] unit rows.  values: [L, M, d].  feedback: [L, d, d], the projection P of each layer.
    slot_tasks: [M], the task that brought each slot.
    """

    keys: Tensor
    values: Tensor
    feedback: Tensor
    slot_tasks: tuple[str, ...]

    def __post_init__(self) -> None:
        layers, slots, dim = self.keys.shape
        if self.values.shape != self.keys.shape or self.feedback.shape != (layers, dim, dim):
            raise ValueError(
                f"keys {tuple(self.keys.shape)}, values {tuple(self.values.shape)} and feedback "
                f"{tuple(self.feedback.shape)} do not belong to one set of pools"
            )
        if len(self.slot_tasks) != slots:
            raise ValueError(f"{len(self.slot_tasks)} slot owners for {slots} slots")

    @classmethod
    def empty(cls, config: LoopConfig, dim: int) -> Pools:
        """No slots yet, identity feedback. Deliberating over it is the plain transformer."""
        layers = len(config.layers)
        slots = torch.zeros(layers, 0, dim)
        return cls(slots, slots.clone(), torch.eye(dim).repeat(layers, 1, 1), ())

    @property
    def slots(self) -> int:
        """M, the slots in each layer."""
        return len(self.slot_tasks)

    def memories(self, config: LoopConfig) -> list[Memory]:
        """One `Memory` a layer, ready for the loop; none at all while there are no slots."""
        if self.slots == 0:
            return []
        return [
            remember(k, v, p, config) for k, v, p in zip(self.keys, self.values, self.feedback, strict=True)
        ]

    def to(self, device: torch.device | str) -> Pools:
        return Pools(self.keys.to(device), self.values.to(device), self.feedback.to(device), self.slot_tasks)

    def same(self, other: Pools) -> bool:
        """Whether an image has the same features under both: the same slots and feedback, whoever brought them."""
        pairs = (self.keys, other.keys), (self.values, other.values), (self.feedback, other.feedback)
        return self is other or all(torch.equal(ours, theirs) for ours, theirs in pairs)

    def without(self, task: str) -> Pools:
        """The same pools with one task's slots removed."""
        keep = torch.tensor([i for i, owner in enumerate(self.slot_tasks) if owner != task], dtype=torch.long)
        owners = tuple(owner for owner in self.slot_tasks if owner != task)
        keep = keep.to(self.keys.device)
        return Pools(self.keys[:, keep], self.values[:, keep], self.feedback, owners)


class GrowingPools(nn.Module):
    """Pools with one more task's slots, which train while everything older stays frozen.

    base: the pools so far.  keys, values: [L, m, d], where the new slots start.
    """

    def __init__(self, base: Pools, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.base = base
        self.raw_keys = nn.Parameter(keys.clone())
        self.values = nn.Parameter(values.clone())
        self.feedback = nn.Parameter(base.feedback.clone())

    @property
    def new_keys(self) -> Tensor:
        """[L, m, d] unit rows."""
        return F.normalize(self.raw_keys, dim=-1)

    def memories(self, config: LoopConfig) -> list[Memory]:
        keys = torch.cat([self.base.keys, self.new_keys], dim=1)
        values = torch.cat([self.base.values, self.values], dim=1)
        return [remember(k, v, p, config) for k, v, p in zip(keys, values, self.feedback, strict=True)]

    @torch.no_grad()
    def freeze(self, task: str) -> Pools:
        """The grown pools as they stand, the new slots owned by `task`."""
        return Pools(
            torch.cat([self.base.keys, self.new_keys], dim=1),
            torch.cat([self.base.values, self.values], dim=1),
            self.feedback.detach().clone(),
            self.base.slot_tasks + (task,) * self.raw_keys.shape[1],
        )
