"""Learning on a device of its own."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.network import RetrievalViT
from tests.elsewhere import Mixed, elsewhere
from trainer.learning.config import LearnerConfig
from trainer.learning.epochs import EpochState
from trainer.learning.learner import Learner
from trainer.learning.task import Task

CONFIG = LearnerConfig(least_images=0, slots=4, epochs=2, least_steps=0, batch=8, settled=100)


def learned(network: RetrievalViT, tasks: tuple[Task, ...]) -> tuple[Tensor, Tensor]:
    """Keys of all slots and answers to the first task, once the last was learned in two sittings."""
    learner = Learner(network, CONFIG)
    state = learner.start()
    for task in tasks[:-1]:
        state = learner.consolidate(state, task)
    epochs: list[EpochState] = []
    learner.consolidate(state, tasks[-1], None, epochs.append)
    state = learner.consolidate(state, tasks[-1], resume=epochs[0])
    features = learner.extract(state.pools, tasks[0].pixels)
    return state.pools.keys, state.head.logits(features)


def learned_elsewhere(network: RetrievalViT, tasks: tuple[Task, ...]) -> tuple[Tensor, Tensor]:
    with elsewhere() as device:
        return learned(network.to(device), tasks)


def test_the_same_is_learned_there(network: RetrievalViT, first: Task, second: Task) -> None:
    tasks = first, second
    keys, logits = learned(network, tasks)
    # In a process of its own: torch asks what devices there are before its first backward pass and never again.
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        keys_there, logits_there = other.submit(learned_elsewhere, network, tasks).result()
    # The CPU may have trained in bfloat16.
    assert F.cosine_similarity(keys_there, keys, dim=-1).min() > 0.9
    assert (logits_there.argmax(dim=1) == logits.argmax(dim=1)).float().mean() > 0.9


def test_a_tensor_left_behind_is_noticed() -> None:
    with elsewhere() as device:
        there = torch.ones(2, device=device)
        assert (there + torch.tensor(1.0)).tolist() == [2, 2]
        with pytest.raises(Mixed, match="add"):
            there + torch.ones(2)
