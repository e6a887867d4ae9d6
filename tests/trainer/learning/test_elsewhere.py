"""Learning on a device of its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.deliberation import LoopConfig
from model.network import RetrievalViT
from tests.elsewhere import Mixed, run_elsewhere
from trainer.learning.config import LearnerConfig
from trainer.learning.epochs import EpochState
from trainer.learning.learner import Learner
from trainer.learning.task import Task

LOOP = LoopConfig(layers=(2, 5), topk=4)
CONFIG = LearnerConfig(least_images=0, slots=4, epochs=2, least_steps=0, batch=8, settled=100)


def learned(device: torch.device, network: RetrievalViT, first: Task, second: Task) -> tuple[Tensor, Tensor]:
    """Keys of all slots, and answers to the first task once the second was learned in two sittings."""
    learner = Learner(RetrievalViT(network.backbone, LOOP).to(device), CONFIG)
    state = learner.consolidate(learner.start(), first)
    epochs: list[EpochState] = []
    learner.consolidate(state, second, on_epoch=epochs.append)
    state = learner.consolidate(state, second, resume=epochs[0])
    return state.pools.keys, state.head.logits(learner.extract(state.pools, first.pixels))


def test_the_same_is_learned_there(network: RetrievalViT, first: Task, second: Task) -> None:
    keys, logits = learned(torch.device("cpu"), network, first, second)
    keys_there, logits_there = run_elsewhere(learned, network, first, second)
    # The CPU may have trained in bfloat16.
    assert F.cosine_similarity(keys_there, keys, dim=-1).min() > 0.9
    assert (logits_there.argmax(dim=1) == logits.argmax(dim=1)).float().mean() > 0.9


def left_behind(device: torch.device) -> list[float]:
    there = torch.ones(2, device=device)
    with pytest.raises(Mixed, match="add"):
        there + torch.ones(2)
    result: list[float] = (there + torch.tensor(1.0)).tolist()
    return result


def test_a_tensor_left_behind_is_noticed() -> None:
    assert run_elsewhere(left_behind) == [2, 2]
