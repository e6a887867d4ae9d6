from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from trainer.learning.learner import Learner
from trainer.learning.task import Task
from trainer.validation.diagnosis import diagnosed


def test_a_trained_loop_is_alive_and_a_collapsed_one_is_told(learner: Learner, first: Task) -> None:
    pools = learner.consolidate(learner.start(), first).pools
    alive = diagnosed(learner, pools, first)
    assert set(alive) == {
        "retrieval_entropy",
        "slot_use",
        "spread_ratio",
        "retrieval_steps",
        "spectral_radius",
    }
    assert all(map(math.isfinite, alive.values()))
    assert 0 < alive["retrieval_entropy"] <= math.log(4) + 1e-6
    assert 0 < alive["slot_use"] <= 1
    assert alive["retrieval_steps"] == 4
    one_key = replace(pools, keys=pools.keys[:, :1].expand_as(pools.keys).contiguous())
    undecided = diagnosed(learner, one_key, first)
    assert undecided["retrieval_entropy"] == pytest.approx(math.log(4))
    assert (
        undecided["spectral_radius"] < alive["spectral_radius"]
    )  # what is recalled no longer answers the query


def test_without_slots_there_is_nothing_to_tell(learner: Learner, first: Task) -> None:
    assert diagnosed(learner, learner.start().pools, first) == {}
    assert torch.is_grad_enabled()
