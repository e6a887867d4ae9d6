"""Images to class scores: the one function both a server and a benchmark call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.budget import BudgetBatch
from model.deliberation import Memory, Recall
from model.head import Head
from model.network import RetrievalViT


class Answer(NamedTuple):
    """What the network and the head make of a batch.

    scores: [B, C] probabilities.  steps: [B, L] int64, steps taken in each layer.
    familiarity: [B], 0 (unlike any image of a class known) to 1; NaN where that is not known.
    features: [B, F], what the scores were read from, of length one.  recalls: see `Features`.
    """

    scores: Tensor
    familiarity: Tensor
    steps: Tensor
    features: Tensor
    recalls: list[Recall]


@torch.inference_mode()
def classify(
    network: RetrievalViT, memories: Sequence[Memory], head: Head, pixels: Tensor, budgets: BudgetBatch
) -> Answer:
    """Classify uint8 pixels [B, 3, px, px]. `memories` are the pools laid out by `Pools.memories`."""
    features = network(pixels, memories, budgets)
    scores = head.logits(features.vectors).softmax(dim=-1)
    return Answer(scores, head.familiar(features.vectors), features.steps, features.vectors, features.recalls)
