"""Which tasks bring slots, and how these are trained."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from model.network import RetrievalViT
from tests.trainer.conftest import accuracy
from trainer.learning.config import LearnerConfig
from trainer.learning.epochs import EpochState, TaskTraining, drift_of
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task


def test_pools_that_were_taught_enough_classes_stay_as_they_are(
    network: RetrievalViT, first: Task, second: Task
) -> None:
    learner = Learner(
        network,
        LearnerConfig(least_images=0, slots=4, epochs=1, least_steps=0, batch=8, settled=3),
    )
    after_one = learner.consolidate(learner.start(), first)
    after_two = learner.consolidate(after_one, second)
    assert after_one.pool_labels == {"ant", "bee", "cow"}
    assert after_two.pools is after_one.pools
    assert after_two.tasks == ("t1", "t2")
    assert accuracy(learner, after_two, second) > 0.9


def test_a_task_of_few_images_leaves_the_pools_to_the_next(
    network: RetrievalViT, first: Task, second: Task
) -> None:
    trial = first.pick([first.labels.index(label) for label in ("ant", "bee")])
    config = LearnerConfig(least_images=len(second.labels), slots=4, epochs=1, least_steps=0, batch=8)
    learner = Learner(network, config)
    after_trial = learner.consolidate(learner.start(), trial)
    assert after_trial.pools.slots == 0
    assert after_trial.labels == ("ant", "bee")
    assert learner.consolidate(after_trial, second).pool_labels == set(second.labels)


def test_pools_that_are_done_from_the_start_bring_no_slots(network: RetrievalViT, first: Task) -> None:
    learner = Learner(network, LearnerConfig(least_images=0, settled=0, batch=8))
    assert learner.consolidate(learner.start(), first).pools.slots == 0


@pytest.mark.parametrize(("outweigh", "trained"), [(2.0, True), (100.0, False)])
def test_a_task_that_outweighs_all_before_trains_slots_again(
    network: RetrievalViT, first: Task, second: Task, outweigh: float, trained: bool
) -> None:
    trial = first.pick([first.labels.index(label) for label in ("ant", "bee")])
    learner = Learner(
        network,
        LearnerConfig(least_images=0, outweigh=outweigh, slots=4, epochs=1, least_steps=0, batch=8),
    )
    after_trial = learner.consolidate(learner.start(), trial)
    assert after_trial.pools.slots == 4
    assert (learner.consolidate(after_trial, second).pools.slots == 8) == trained


@pytest.fixture
def alone(first: Task) -> Task:
    """One class and no other."""
    return first.pick([row for row, label in enumerate(first.labels) if label == "ant"])


def test_the_images_of_a_class_that_is_alone_are_told_from_each_other(
    network: RetrievalViT, first: Task
) -> None:
    alone = Task("t1", first.pixels[::4], ("ant",) * len(first.pixels[::4]))
    learner = Learner(network, LearnerConfig(least_images=0, slots=4, batch=9, few_classes=8, least_steps=60))
    losses: list[float] = []
    state = learner.consolidate(learner.start(), alone, lambda _, figures: losses.append(figures["loss"]))
    assert len(losses) == 60
    told_nothing = math.log(len(alone.labels)) / 2  # half of it: which class it is needs no telling
    assert sum(losses[-10:]) / 10 < 0.8 * told_nothing
    assert state.pools.slots == 4
    assert state.pool_labels == {"ant"}
    assert accuracy(learner, state, alone) == 1


def test_of_few_classes_both_images_and_classes_are_judged(network: RetrievalViT, first: Task) -> None:
    config, start = LearnerConfig(slots=4, few_classes=8), Learner(network, LearnerConfig()).start()
    before = Learner(network, config).extract(start.pools, first.pixels)
    training = TaskTraining(network, config, start, first, before)
    rows = torch.tensor([0, 20])
    targets = training.lesson.targets
    twin = int((targets == targets[0]).nonzero()[1])
    sure = torch.full((2, len(first.labels)), -50.0)
    for answers, entropies, share in (
        ((0, 20), (0, 0), 1.0),  # both images recognised
        ((twin, 20), (50, 0), 1.0),  # taken for another of its class
        ((20, 20), (50, 50), 0.5),  # taken for one of another class
    ):
        logits = sure.clone().scatter(1, torch.tensor(answers)[:, None], 0.0)
        loss, right = training.lesson.judge(logits, rows)
        assert loss.item() == pytest.approx(sum(entropies) / 4, rel=0.05, abs=1e-6)
        assert right.item() == share


def test_a_class_that_is_alone_brings_no_slots_by_default(network: RetrievalViT, alone: Task) -> None:
    learner = Learner(network, LearnerConfig(least_images=0))
    state = learner.consolidate(learner.start(), alone)
    assert state.pools.slots == 0
    assert state.tasks == ("t1",)
    assert accuracy(learner, state, alone) == 1


def test_of_many_images_of_one_class_some_are_chosen_from_all_over(
    network: RetrievalViT, alone: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.learning.lessons.EXEMPLARS", 5)
    learner = Learner(network, LearnerConfig(few_classes=8))
    before = learner.extract(learner.start().pools, alone.pixels)
    training = TaskTraining(network, learner.config, learner.start(), alone, before)
    assert torch.equal(training.task.pixels, alone.pixels[::3])
    assert training.classifier.out_features == training.lesson.outputs == 4


def test_of_many_images_of_few_classes_some_of_each_are_chosen(
    network: RetrievalViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.learning.lessons.EXEMPLARS", 4)
    pixels = torch.zeros(9, 3, 32, 32, dtype=torch.uint8)
    task = Task("t1", pixels, ("ant", "bee", *["cow"] * 7))
    learner = Learner(network, LearnerConfig(few_classes=8))
    before = learner.extract(learner.start().pools, pixels)
    training = TaskTraining(network, learner.config, learner.start(), task, before)
    assert set(training.task.labels) == {"ant", "bee", "cow"}
    assert len(training.task.labels) <= 4 + 3


@pytest.mark.parametrize(("few_classes", "vary"), [(4, False), (3, True), (3, False)])
def test_what_training_shows_and_when_it_ends(
    network: RetrievalViT, first: Task, few_classes: int, vary: bool
) -> None:
    config = LearnerConfig(
        slots=4, epochs=1, least_steps=10, enough=0, few_classes=few_classes, vary=vary, batch=8, mirror=0
    )
    before = Learner(network, config).extract(Learner(network, config).start().pools, first.pixels)
    training = TaskTraining(network, config, Learner(network, config).start(), first, before)
    rows, unmirrored = torch.arange(8), torch.zeros(8, dtype=torch.bool)
    shown = training.shown(rows, unmirrored, torch.Generator().manual_seed(0))
    told_apart = few_classes > len(set(first.labels))
    assert torch.equal(shown, first.pixels[:8]) == (not vary and not told_apart)
    assert training.lesson.places is None or torch.equal(training.lesson.places, before)
    assert (training.lesson.places is None) == (vary or told_apart), "where images lie as shown is not known"
    assert training.epochs * training.steps == 10


def test_training_ends_early_only_after_the_least_steps(network: RetrievalViT, first: Task) -> None:
    config = LearnerConfig(slots=4, epochs=9, least_steps=10, enough=0, batch=8)
    for few_classes, ended in ((0, 2), (4, 9)):
        learner = Learner(network, replace(config, few_classes=few_classes))
        before = learner.extract(learner.start().pools, first.pixels)
        training, epochs = TaskTraining(network, learner.config, learner.start(), first, before), []
        training.run(on_epoch=lambda state, epochs=epochs: epochs.append(state.epoch))
        assert training.steps == 5
        assert (len(epochs), epochs[-1]) == (ended, 9), "any accuracy is enough, of classes"


def test_features_are_held_the_less_the_fewer_images_came_before(
    network: RetrievalViT, first: Task, second: Task
) -> None:
    config = LearnerConfig(slots=4, later_lr=0.25, lr=0.01, epochs=0)
    learner = Learner(network, config)

    def rate(before: LearnerState) -> float:
        features = learner.extract(before.pools, second.pixels)
        training = TaskTraining(network, config, before, second, features)
        return training.optimizer.param_groups[0]["lr"]

    trial = first.pick(range(len(second.labels) // 2))
    known = learner.consolidate_head(learner.start(), trial)
    assert rate(learner.start()) == pytest.approx(0.01)
    assert rate(known) == pytest.approx(0.005), "half as many images as the task has"
    assert rate(learner.consolidate_head(learner.start(), first)) == pytest.approx(0.0025)


def test_slots_start_with_keys_of_length_one_and_short_values(network: RetrievalViT, first: Task) -> None:
    config = LearnerConfig(least_images=0, slots=64, value_scale=0.05)
    learner = Learner(network, config)
    before = learner.extract(learner.start().pools, first.pixels)
    pools = TaskTraining(network, config, learner.start(), first, before).pools
    torch.testing.assert_close(pools.raw_keys.norm(dim=-1), torch.ones(7, 64))
    assert pools.values.std().item() == pytest.approx(0.05, rel=0.02)


def test_half_of_the_images_are_seen_mirrored(network: RetrievalViT, first: Task) -> None:
    def trained(mirror: float) -> torch.Tensor:
        config = LearnerConfig(least_images=0, slots=4, epochs=1, least_steps=0, batch=8, mirror=mirror)
        learner = Learner(network, config)
        return learner.consolidate(learner.start(), first).pools.values

    flipped = replace(first, pixels=first.pixels.flip(-1))
    learner = Learner(
        network,
        LearnerConfig(least_images=0, slots=4, epochs=1, least_steps=0, batch=8, mirror=0.0),
    )
    of_flipped = learner.consolidate(learner.start(), flipped).pools.values
    torch.testing.assert_close(trained(1.0), of_flipped, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(trained(0.5), trained(0.0))


def test_training_ends_with_an_epoch_that_answered_enough(network: RetrievalViT, first: Task) -> None:
    config = LearnerConfig(least_images=0, slots=4, epochs=50, least_steps=0, batch=8, enough=0.8)
    epochs: list[EpochState] = []
    Learner(network, config).consolidate(Learner(network, config).start(), first, None, epochs.append)
    assert 1 < len(epochs) < 50
    assert epochs[-1].epoch == 50


@pytest.mark.parametrize("few_classes", [0, 8])
def test_keeping_features_in_place_makes_them_drift_less(
    network: RetrievalViT, first: Task, second: Task, few_classes: int
) -> None:
    def drift(weight: float) -> float:
        config = LearnerConfig(
            least_images=0,
            slots=4,
            epochs=3,
            few_classes=few_classes,
            least_steps=20,
            batch=8,
            settled=100,
            drift_weight=weight,
            later_lr=1.0,
        )
        learner = Learner(network, config)
        one = learner.consolidate(learner.start(), first)
        two = learner.consolidate(one, second)
        old = learner.extract(one.pools, second.pixels)
        return drift_of(old, learner.extract(two.pools, second.pixels)).item()

    assert drift(100.0) < 0.7 * drift(0.0)


def test_images_told_apart_are_told_apart_as_well_after_an_interruption(
    network: RetrievalViT, alone: Task
) -> None:
    config = LearnerConfig(least_images=0, slots=4, epochs=2, least_steps=0, batch=8, few_classes=8)
    learner, epochs = Learner(network, config), list[EpochState]()
    whole = learner.consolidate(learner.start(), alone, on_epoch=epochs.append)
    resumed = learner.consolidate(learner.start(), alone, resume=epochs[0])
    assert torch.equal(resumed.pools.values, whole.pools.values)
