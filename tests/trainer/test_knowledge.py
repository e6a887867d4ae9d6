"""What a trainer builds on, and what it serves on top."""

from __future__ import annotations

import pytest
import torch

from model.pools import Pools
from trainer.learner import Learner

from .bench import Bench
from .conftest import correction


def test_pools_are_hashed_as_often_for_many_corrections_as_for_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, hashed = Learner.space, []

    def counted(self: Learner, pools: Pools) -> str:
        hashed.append(pools)
        return space(self, pools)

    with bench.term() as term:
        learner, state = term.learner, term.knowledge.base.state
        one = correction(learner, state, torch.eye(learner.network.backbone.width)[:1], "ant")
        monkeypatch.setattr(Learner, "space", counted)
        for corrections, times in (([], 0), ([one], 1), ([one] * 9, 1)):
            hashed.clear()
            assert term.knowledge.followed(state, corrections) == corrections
            assert len(hashed) == times
