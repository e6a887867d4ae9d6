"""Corrections: what a server kept of its answers teaches the head as the images would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from exchange.blobs import BlobStore
from exchange.records import Sample
from tests.trainer.conftest import claim, correction, stripes
from trainer.intake.corrected_features import (
    Correction,
    Unfollowable,
    correct,
    follow,
    learned,
    load_correction,
)
from trainer.intake.images import UnusableTask
from trainer.learning.learner import KEPT_DRIFTS, Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task


def answers(learner: Learner, state: LearnerState, pixels: Tensor) -> Sequence[str]:
    rows = state.head.logits(learner.extract(state.pools, pixels)).argmax(dim=1)
    return [state.labels[row] for row in rows.tolist()]


@pytest.fixture
def taught(learner: Learner, first: Task) -> LearnerState:
    return learner.consolidate(learner.start(), first)


def test_a_correction_counts_as_its_image_would(learner: Learner, taught: LearnerState, second: Task) -> None:
    features = learner.extract(taught.pools, second.pixels)
    by_feature = correct(learner, taught, [correction(learner, taught, features, *second.labels)])
    by_image = learner.learn_fast(taught, second)
    assert by_feature.labels == by_image.labels
    torch.testing.assert_close(by_feature.moments.gram, by_image.moments.gram)
    torch.testing.assert_close(by_feature.head.weight, by_image.head.weight, rtol=1e-3, atol=1e-4)


def test_one_correction_teaches_a_new_label_and_leaves_the_others(
    learner: Learner, taught: LearnerState, first: Task
) -> None:
    gnu = stripes("t9", ("gnu",))
    features = learner.extract(taught.pools, gnu.pixels[:1])
    after = correct(learner, taught, [correction(learner, taught, features, "gnu")])
    assert set(answers(learner, after, gnu.pixels)) == {"gnu"}
    assert answers(learner, after, first.pixels) == list(first.labels)
    assert after.sharpness == taught.sharpness  # one image says nothing of how sure to be


def test_it_survives_the_consolidation_of_later_tasks(
    learner: Learner, taught: LearnerState, second: Task, tmp_path: Path
) -> None:
    gnu = stripes("t9", ("gnu",))
    features = learner.extract(taught.pools, gnu.pixels[:4])
    state = learned(learner, taught, [correction(learner, taught, features, *["gnu"] * 4)], 1)
    assert (state.corrected, state.taught["c1"]) == (("c1",), ("gnu",))
    state.save(tmp_path / "state")
    state = learner.consolidate(LearnerState.load(tmp_path / "state"), second)
    assert set(answers(learner, state, gnu.pixels)) == {"gnu"}
    assert state.corrected == ("c1",)


def test_those_of_one_version_are_all_remembered_and_of_more_the_newest(
    learner: Learner, taught: LearnerState, first: Task
) -> None:
    features = learner.extract(taught.pools, first.pixels[:1])

    def made(*ids: str) -> list[Correction]:
        one = correction(learner, taught, features, "ant")
        return [replace(one, claim=claim(task=task)) for task in ids]

    state = learned(learner, taught, made("c1", "c2", "c3"), remembered=2)
    assert state.corrected == ("c1", "c2", "c3")
    assert learned(learner, state, made("c4"), remembered=2).corrected == ("c3", "c4")


def test_a_feature_made_before_a_consolidation_follows_its_drift(
    learner: Learner, taught: LearnerState, second: Task, tmp_path: Path
) -> None:
    third = stripes("t3", ("fox", "gnu"), seed=2)
    before = learner.extract(taught.pools, second.pixels)
    one = learner.consolidate(taught, second)
    two = learner.consolidate(one, third)
    two.save(tmp_path / "state")
    two = LearnerState.load(tmp_path / "state")
    spaces = [learner.space(state.pools) for state in (taught, one, two)]
    now = learner.extract(one.pools, second.pixels)
    followed = follow(one, before, spaces[0], spaces[1])
    assert (followed - now).norm() < (before - now).norm()
    assert torch.equal(follow(one, now, spaces[1], spaces[1]), now)
    further = follow(two, followed, spaces[1], spaces[2])
    torch.testing.assert_close(follow(two, before, spaces[0], spaces[2]), further)


def test_what_cannot_be_followed_is_refused(learner: Learner, taught: LearnerState, second: Task) -> None:
    other = learner.consolidate(learner.start(), second)  # another branch
    features = F.normalize(torch.ones(1, 48), dim=-1)
    with pytest.raises(Unfollowable, match="does not descend"):
        correct(learner, taught, [correction(learner, other, features, "elk")])
    forgotten = replace(taught, drifts=())  # too long ago
    with pytest.raises(Unfollowable):
        correct(learner, forgotten, [correction(learner, learner.start(), features, "elk")])
    assert len(taught.drifts) == 1 <= KEPT_DRIFTS


@pytest.mark.parametrize(
    "blob", [b"", b"\0" * 47 * 4, torch.full((48,), torch.nan).numpy().tobytes(), b"\xff\xd8\xff" * 64]
)
def test_a_blob_that_is_no_feature_fails_its_task(tmp_path: Path, blob: bytes) -> None:
    blobs = BlobStore(tmp_path)
    with pytest.raises(UnusableTask, match="48 finite numbers"):
        load_correction(claim((Sample(blobs.put(blob), "x", "space"),)), blobs, 48)
