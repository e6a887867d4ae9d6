from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from exchange.errors import VersionUnreadable
from exchange.keys import DEFAULT_PREFIX
from exchange.lease import Lease
from exchange.registry import Registry
from trainer.learner import Learner
from trainer.lineage import Base, Lineage
from trainer.task import Task


def test_a_state_that_goes_after_it_was_verified_is_missing_and_not_damaged(
    learner: Learner, redis: Redis, first: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(redis, tmp_path)
    lineage = Lineage(registry, learner)
    state = learner.consolidate(learner.start(), first)
    token = Lease(redis, DEFAULT_PREFIX, 15).acquire()
    assert token is not None
    manifest = lineage.publish(Base(state, None), state, (), {}, consolidated=True, lease_token=token)
    assert lineage.load().version == manifest.version
    verify = registry.verify

    def lose(version: int, role: str) -> None:
        verify(version, role)
        registry.path(version, role).unlink()

    monkeypatch.setattr(registry, "verify", lose)
    with pytest.raises(VersionUnreadable, match="No such file"):
        lineage.load()
