"""Whether the loop of a version is alive: a few figures beside its accuracy."""

from __future__ import annotations

import torch

from model.budget import BudgetBatch
from model.diagnostics import diagnose, spectral_radius
from model.pools import Pools
from trainer.learning.learner import Learner
from trainer.learning.task import Task, interleaved

IMAGES = 16
"""Enough to see a collapse; a second of work at most."""
ITERATIONS = 20


def diagnosed(learner: Learner, pools: Pools, task: Task) -> dict[str, float]:
    """Figures of the loop on a few images of a task; none without slots. See `model.diagnostics`.

    `retrieval_entropy` (nats, last step), `slot_use`, `spread_ratio` and `retrieval_steps` are means over the layers;
    `spectral_radius` is that of the layer where it is largest, on the mean over images.
    """
    rows = interleaved(task.labels)[:IMAGES]
    if not pools.slots or len(rows) < 2:
        return {}
    loop, network = learner.network.loop, learner.network
    device = network.backbone.device
    memories = pools.to(device).memories(loop)
    budgets = BudgetBatch.repeat(loop.budget, len(rows), device)
    with torch.no_grad():
        found = network(task.pixels[rows].to(device), memories, budgets).recalls
    layers = [diagnose(layer, pools.slots) for layer in found]
    width = min(loop.topk, pools.slots)
    radii = [
        spectral_radius(layer.queries[:, -1:], memory, loop, width, ITERATIONS).mean().item()
        for layer, memory in zip(found, memories, strict=True)
    ]
    return {
        "retrieval_entropy": mean([layer.entropy[-1] for layer in layers]),
        "slot_use": mean([layer.slot_use for layer in layers]),
        "spread_ratio": mean([layer.spread_ratio for layer in layers]),
        "retrieval_steps": mean([layer.mean_steps for layer in layers]),
        "spectral_radius": max(radii),
    }


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
