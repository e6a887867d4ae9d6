"""The gate between learning and serving: what it tries, and what it lets through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from tests.trainer.conftest import correction
from trainer.intake.corrected_features import learned
from trainer.learning.config import ValidationConfig
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.store.validation_shelf import ValidationShelf
from trainer.validation.promotion import Promotion, Refused


@pytest.fixture
def promotion(learner: Learner, tmp_path: Path) -> Promotion:
    return Promotion(learner, ValidationShelf(tmp_path), ValidationConfig(least_images=3))


@pytest.fixture
def examined(promotion: Promotion, first: Task) -> LearnerState:
    """The first task learned by the head alone, and all of its images held out."""
    promotion.shelf.save(first)
    start = promotion.learner.start()
    return promotion.examine(start, promotion.learner.consolidate_head(start, first), first)[0]


def lying(task: Task) -> Task:
    """The names of the old classes on each other's images, five times over."""
    return Task("lying", torch.cat([task.pixels.roll(12, 0)] * 5), task.labels * 5)


def test_slots_that_cost_too_much_are_left_out_and_a_task_that_brings_none_is_refused_at_once(
    promotion: Promotion, examined: LearnerState, first: Task
) -> None:
    task, learner = lying(first), promotion.learner
    for state, tried in (
        (learner.consolidate(examined, task), 1),
        (learner.consolidate_head(examined, task), 0),
    ):
        with capture_logs() as lines, pytest.raises(Refused, match="held-out images"):
            promotion.examine(examined, state, task)
        assert [line["event"] for line in lines] == ["new slots left out"] * tried


def test_no_image_passes_the_backbone_to_measure_again_after_corrections_and_forgetting(
    promotion: Promotion, examined: LearnerState, first: Task, second: Task, passed: list[int]
) -> None:
    learner = promotion.learner
    features = learner.extract(examined.pools, first.pixels[:3])
    corrected = learned(learner, examined, [correction(learner, examined, features, *first.labels[:3])], 1)
    both = learner.consolidate_head(corrected, second)
    passed.clear()
    state, report = promotion.examine(corrected, both, second)
    assert report.held_out_images == 36
    left, _ = promotion.forget(state, "t2")
    promotion.examine(left, learner.consolidate_head(left, second), second)
    assert passed == []


def test_a_task_that_brought_no_slots_is_not_said_to_leave_some(
    promotion: Promotion, examined: LearnerState, second: Task
) -> None:
    state, _ = promotion.examine(examined, promotion.learner.consolidate_head(examined, second), second)
    with capture_logs() as lines:
        promotion.forget(state, "t1")
    assert lines == []


def test_harm_that_corrections_did_is_not_put_on_the_next_task(
    promotion: Promotion, examined: LearnerState, first: Task, second: Task
) -> None:
    learner, wrong = promotion.learner, lying(first).labels
    features = learner.extract(examined.pools, lying(first).pixels)
    harmed = learned(learner, examined, [correction(learner, examined, features, *wrong)], 1)
    state, report = promotion.examine(harmed, learner.consolidate_head(harmed, second), second)
    assert report.last["t1"] < examined.last["t1"] - 0.1
    assert state.last == report.now
    _, report = promotion.forget(learner.consolidate_head(harmed, second), "t2")
    assert report.earlier_images == len(first.labels), (
        "measured before, so that it can tell whether slots are needed"
    )
