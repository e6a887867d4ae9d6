"""What budgets other than the one trained for would answer: the trade a request may make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.continual.methods.base import EVALUATION_BATCH, Images, percent_right
from model.budget import Budget, BudgetBatch
from model.deliberation import LoopConfig
from model.merging import LEAST_KEEP
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState

EPSILONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
TOPKS = (1, 2, 3, 5, 10, 20)
KEEPS = (0.9, 0.8, 0.7, 0.6, LEAST_KEEP)


def budgets_around(loop: LoopConfig) -> list[Budget]:
    """Budgets that differ from the loop's own in one field."""
    own = loop.budget
    steps = [replace(own, tmax=tmax) for tmax in range(1, own.tmax + 1)]
    stops = [replace(own, epsilon=epsilon) for epsilon in EPSILONS]
    mixed = [replace(own, topk=topk) for topk in TOPKS if topk != own.topk]
    return [*steps, *stops, *mixed, *(replace(own, keep=keep) for keep in KEEPS)]


@torch.no_grad()
def sweep(learner: Learner, state: LearnerState, tests: Sequence[Images]) -> list[dict[str, Any]]:
    """Accuracy over all test images, mean steps a layer and multiply-adds of each budget.

    A stopped sample still costs what its batch costs, so multiply-adds follow tmax, topk and keep, not epsilon.
    """
    device = learner.network.backbone.device
    memories = state.pools.to(device).memories(learner.network.loop)
    head, labels = state.head.to(device), state.labels
    figures = []
    for budget in budgets_around(learner.network.loop):
        right, steps, count = 0.0, 0.0, 0
        for images in tests:
            for pixels, names in batches(images):
                features = learner.network(
                    pixels.to(device), memories, BudgetBatch.repeat(budget, len(pixels), device)
                )
                right += percent_right(head.logits(features.vectors), labels, names) * len(names) / 100
                steps += features.steps.float().mean(dim=1).sum().item()
                count += len(names)
        with FlopCounterMode(display=False) as counter:
            learner.network(pixels[:1].to(device), memories, BudgetBatch.repeat(budget, 1, device))
        figures.append(
            {
                **asdict(budget),
                "accuracy": 100 * right / count,
                "mean_steps": steps / count,
                "giga_multiply_adds": counter.get_total_flops() / 2e9,
            }
        )
    return figures


def batches(images: Images) -> list[tuple[torch.Tensor, tuple[str, ...]]]:
    """Pixels and names of a few images at a time."""
    starts = range(0, len(images.names), EVALUATION_BATCH)
    return [
        (images.pixels[start : start + EVALUATION_BATCH], images.names[start : start + EVALUATION_BATCH])
        for start in starts
    ]
