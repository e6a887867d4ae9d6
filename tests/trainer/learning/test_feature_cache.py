"""What is remembered of a task, and for how long."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from weakref import ref

import torch

from trainer.learning.feature_cache import FeatureCache
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task


def test_features_are_those_of_one_task_under_the_same_pools(learner: Learner, first: Task) -> None:
    cache, pools, features = FeatureCache(), learner.start().pools, torch.ones(len(first.labels), 3)
    assert cache.features(pools, first) is None
    assert cache.keep(pools, first, features) is features
    assert cache.features(pools, first) is features
    assert cache.features(replace(pools, feedback=2 * pools.feedback), first) is None
    assert cache.features(pools, replace(first)) is None


def test_pools_read_from_disk_again_are_the_same(learner: Learner, first: Task, tmp_path: Path) -> None:
    state, cache = learner.consolidate(learner.start(), first), learner.cache
    state.save(tmp_path / "state")
    loaded = LearnerState.load(tmp_path / "state")
    assert cache.features(loaded.pools, first) is cache.features(state.pools, first) is not None
    moved = replace(loaded.pools, values=loaded.pools.values + 1e-3)
    assert cache.features(moved, first) is None


def test_a_part_is_the_same_object_while_it_is_the_same_images(first: Task) -> None:
    cache, rows = FeatureCache(), torch.arange(len(first.labels)) < 5
    part = cache.part(first, rows)
    assert part.labels == first.labels[:5]
    assert cache.part(first, rows.clone()) is part
    assert cache.part(first, ~rows).labels == first.labels[5:]


def test_nothing_is_remembered_of_a_task_that_nobody_holds(learner: Learner, first: Task) -> None:
    cache, task = FeatureCache(), replace(first)
    features = cache.keep(learner.start().pools, task, torch.ones(len(task.labels), 3))
    part = cache.part(task, torch.arange(len(task.labels)) < 5)
    begun = cache.begin(learner.start().pools, task, torch.arange(3), torch.ones(3, 3))
    left = ref(features), ref(part), ref(begun)
    del task, features, part, begun
    gc.collect()
    assert [one() for one in left] == [None, None, None]
