from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from exchange.errors import LoopChanged, VersionUnreadable
from exchange.lease import Lease
from exchange.redis_keys import DEFAULT_PREFIX
from exchange.registry import Registry
from model.network import RetrievalViT
from tests.exchange.publishing import publish, publish_chain
from tests.trainer.bench import Bench
from tests.trainer.conftest import stripes
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.store.lineage import Base, Lineage


def published(lineage: Lineage, redis: Redis, state: LearnerState) -> int:
    token = Lease(redis, DEFAULT_PREFIX, 15).acquire()
    assert token is not None
    manifest = lineage.publish(Base(state, None), state, {}, {}, consolidated=True, lease_token=token)
    assert lineage.load().version == manifest.version
    return manifest.version


@pytest.mark.usefixtures("apart")
def test_a_burst_leaves_no_more_versions_than_are_kept_and_all_are_built_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "config", lambda *some: replace(Bench.config(bench, *some), keep_versions=2))
    with bench.term() as term:
        bench.submit(stripes("t0", ("fox", "gnu")))
        term.accept_waiting(block_ms=0)
        term.consolidation.consolidate(term.claims.pending[0])
        learned = bench.registry.current()
        for number in range(4):
            bench.submit(stripes(f"t{number}", (f"a{number}", f"b{number}")))
        term.accept_waiting(block_ms=0)
        kept = bench.registry.manifests()
        assert [manifest.kind for manifest in kept] == ["fast", "fast", "consolidated"]
        for manifest in kept:
            bench.registry.activate(manifest.version)
            base = Lineage(bench.registry, term.learner).load()
            assert (base.version, base.consolidated) == (manifest.version, learned)
            assert base.state.labels == ("fox", "gnu")


def in_another_loop(learner: Learner, **changed: object) -> Learner:
    network = learner.network
    return Learner(RetrievalViT(network.backbone, replace(network.loop, **changed)), learner.config)


@pytest.mark.parametrize("changed", [{"alpha": 0.9}, {"layers": (1, 2)}, {"layers": (2, 3, 4, 5, 6, 7, 8)}])
def test_slots_are_not_built_on_in_another_loop_than_theirs(
    learner: Learner, redis: Redis, first: Task, tmp_path: Path, changed: dict[str, object]
) -> None:
    registry = Registry(redis, tmp_path)
    state = learner.consolidate(learner.start(), first)
    version = published(Lineage(registry, learner), redis, state)
    [name] = changed
    with pytest.raises(LoopChanged, match=f"version {version} cannot be built on: .* trained with {name} "):
        Lineage(registry, in_another_loop(learner, **changed)).load()


def test_without_slots_any_loop_will_do(
    learner: Learner, redis: Redis, first: Task, second: Task, tmp_path: Path
) -> None:
    registry = Registry(redis, tmp_path)
    published(Lineage(registry, learner), redis, learner.consolidate_head(learner.start(), first))
    other = in_another_loop(learner, layers=(1, 2))
    state = other.consolidate(Lineage(registry, other).load().state, second)
    assert len(state.pools.keys) == 2
    assert state.loop == other.network.loop


def test_a_state_that_goes_after_it_was_verified_is_missing_and_not_damaged(
    learner: Learner, redis: Redis, first: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(redis, tmp_path)
    lineage = Lineage(registry, learner)
    state = learner.consolidate(learner.start(), first)
    published(lineage, redis, state)
    verify = registry.shelf.verify

    def lose(version: int, role: str) -> None:
        verify(version, role)
        registry.shelf.path(version, role).unlink()

    monkeypatch.setattr(registry.shelf, "verify", lose)
    with pytest.raises(VersionUnreadable, match="No such file") as caught:
        lineage.load()
    assert str(tmp_path) not in str(caught.value), "tasks that wait say so to clients"


@pytest.mark.parametrize("gone", [True, False])
def test_a_canary_of_which_nothing_tells_what_it_knows_ends_with_what_is_forgotten(
    learner: Learner, redis: Redis, first: Task, tmp_path: Path, gone: bool
) -> None:
    registry = Registry(redis, tmp_path)
    lineage = Lineage(registry, learner)
    version = published(lineage, redis, learner.consolidate(learner.start(), first))
    publish(registry, parent=version)
    registry.set_canary(version, 0.5)
    lineage.end_canary_of("another task")
    assert registry.canary() is not None
    if gone:
        registry.shelf.remove(version)
    else:
        (tmp_path / f"{version:06}.json").write_bytes(b"{")
    lineage.end_canary_of("another task")
    assert registry.canary() is None


def test_a_canary_that_is_chosen_while_another_one_ends_ends_too_if_it_knows_what_is_forgotten(
    learner: Learner, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(redis, tmp_path)
    publish_chain(registry, ["fast"] * 3)  # each knows t1
    registry.set_canary(1, 0.5)
    set_canary, ended = registry.set_canary, []

    def choose_another_first(version: int, share: float) -> None:
        ended.append(version)
        if ended == [1]:
            set_canary(2, 0.5)
        set_canary(version, share)

    monkeypatch.setattr(registry, "set_canary", choose_another_first)
    Lineage(registry, learner).end_canary_of("t1")
    assert ended == [1, 2]
    assert registry.canary() is None
