"""Classes renamed, merged and forgotten: what changes is what was asked for, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint import read_tensors, write_tensors
from model.network import RetrievalViT
from tests.trainer.conftest import accuracy, stripes
from trainer.learning.config import LearnerConfig
from trainer.learning.learner import Learner
from trainer.learning.relabel import changed, renamed, without_class
from trainer.learning.seen import Seen
from trainer.learning.state import LearnerState
from trainer.learning.task import Task


def numbered(task: Task) -> Task:
    """The task with images that are known again, one of each class held out."""
    digests = torch.tensor([1000 * sum(map(ord, label)) + row for row, label in enumerate(task.labels)])
    held = {label: torch.tensor([sum(map(ord, label))]) for label in dict.fromkeys(task.labels)}
    return replace(task, digests=digests, held_out=Seen(held))


@pytest.fixture
def state(learner: Learner, first: Task, second: Task) -> LearnerState:
    """Ants, bees and cows by a task that trained slots; dogs and elks by one that did too."""
    return learner.consolidate(learner.consolidate(learner.start(), numbered(first)), numbered(second))


def scores(learner: Learner, state: LearnerState, task: Task) -> torch.Tensor:
    return state.head.logits(learner.extract(state.pools, task.pixels))


def test_another_name_changes_nothing_but_names(learner: Learner, state: LearnerState, first: Task) -> None:
    left = renamed(learner, state, "bee", "wasp")
    assert left.labels == ("ant", "wasp", "cow", "dog", "elk")
    assert torch.equal(scores(learner, left, first), scores(learner, state, first))
    assert left.pools is state.pools
    assert torch.equal(left.moments.sums, state.moments.sums)
    assert left.taught == {"t1": ("ant", "wasp", "cow"), "t2": ("dog", "elk")}
    assert left.seen.images.keys() == {"ant", "wasp", "cow", "dog", "elk"}
    assert left.seen.images["wasp"].tolist() == state.seen.images["bee"].tolist()
    assert left.held_out["t1"].images.keys() == {"ant", "wasp", "cow"}
    assert (left.judged, left.usual, left.last, left.best) == (
        state.judged,
        state.usual,
        state.last,
        state.best,
    )
    learner.checkpoint(left).check()
    back = renamed(learner, left, "wasp", "bee")
    assert (back.labels, back.taught) == (state.labels, state.taught)


def test_two_classes_merged_are_what_they_would_be_had_they_been_taught_as_one(
    learner: Learner, first: Task, second: Task
) -> None:
    task, other = numbered(first), numbered(stripes("t2", ("bea", "elk"), seed=1))
    apart = learner.consolidate_head(learner.consolidate_head(learner.start(), task), other)
    as_one = replace(other, labels=tuple("bee" if label == "bea" else label for label in other.labels))
    together = learner.consolidate_head(learner.consolidate_head(learner.start(), task), as_one)
    merged = renamed(learner, apart, "bea", "bee")
    assert merged.labels == together.labels == ("ant", "bee", "cow", "elk")
    assert merged.taught == together.taught
    assert merged.moments.counts.tolist() == together.moments.counts.tolist() == [12, 24, 12, 12]
    for name in ("gram", "sums", "scatter"):
        found, wanted = getattr(merged.moments, name), getattr(together.moments, name)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    for found, wanted in ((merged.head.weight, together.head.weight), (merged.head.bias, together.head.bias)):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    learner.checkpoint(merged).check()


def test_what_is_known_of_images_follows_a_merged_class(
    learner: Learner, state: LearnerState, first: Task
) -> None:
    left = renamed(learner, state, "bee", "dog")
    assert left.taught == {"t1": ("ant", "dog", "cow"), "t2": ("dog", "elk")}
    assert set(left.seen.images["dog"].tolist()) == {
        *state.seen.images["bee"].tolist(),
        *state.seen.images["dog"].tolist(),
    }
    assert left.held_out["t1"].images.keys() == {"ant", "dog", "cow"}
    again = replace(numbered(first), labels=tuple("dog" if one == "bee" else one for one in first.labels))
    assert learner.unseen(left, again) is None, "its images are known under the new label"


def test_a_forgotten_class_moves_no_other(learner: Learner, state: LearnerState, second: Task) -> None:
    left = without_class(learner, state, "bee")
    assert left.labels == ("ant", "cow", "dog", "elk")
    stay = [0, 2, 3, 4]
    assert torch.equal(left.moments.means, state.moments.means[stay])
    torch.testing.assert_close(left.moments.covariance, state.moments.covariance, rtol=1e-6, atol=1e-8)
    assert left.pools is state.pools
    before, after = scores(learner, state, second)[:, stay], scores(learner, left, second)
    assert torch.equal(before.argsort(dim=1), after.argsort(dim=1))
    assert accuracy(learner, left, second) >= accuracy(learner, state, second)
    learner.checkpoint(left).check()


def test_a_forgotten_class_can_be_taught_again_from_the_same_images(
    learner: Learner, state: LearnerState, first: Task
) -> None:
    left = without_class(learner, state, "bee")
    assert left.taught["t1"] == ("ant", "cow")
    assert "bee" not in left.seen.images
    assert left.held_out["t1"].images.keys() == {"ant", "cow"}
    again = replace(numbered(first), id="t3")
    new = learner.unseen(left, again)
    assert new is not None
    assert set(new.labels) == {"bee"}
    taught = learner.consolidate_head(left, again)
    assert taught.labels[-1] == "bee"
    assert taught.moments.counts[-1] == 12


def test_a_task_whose_classes_are_all_forgotten_stays_learned_and_says_nothing_any_more(
    learner: Learner, state: LearnerState
) -> None:
    state = replace(state, last={"t1": 1.0, "t2": 1.0}, best={"t1": 1.0, "t2": 1.0})
    left = without_class(learner, without_class(learner, state, "dog"), "elk")
    assert left.taught == {"t1": ("ant", "bee", "cow"), "t2": ()}
    assert left.knows("t2")
    for kept in (left.judged, left.usual, left.last, left.best, left.held_out):
        assert kept.keys() == {"t1"}
    assert set(left.pools.slot_tasks) == {"t1", "t2"}, "slots belong to tasks"


def test_the_last_class_leaves_an_empty_head_and_no_slots(learner: Learner, first: Task) -> None:
    state = learner.consolidate(learner.start(), first)
    for label in ("ant", "bee", "cow"):
        state = without_class(learner, state, label)
    assert (state.labels, state.pools.slots, state.tasks) == ((), 0, ("t1",))
    learner.checkpoint(state).check()
    again, new = (
        learner.consolidate(start, replace(first, id="t2"))
        for start in (replace(state, taught={}), learner.start())
    )
    assert (again.labels, set(again.pools.slot_tasks)) == (("ant", "bee", "cow"), {"t2"})
    assert torch.equal(again.head.weight, new.head.weight), "nothing of what was forgotten is in it"


@pytest.mark.parametrize("becomes", [None, "ant"])
def test_pools_are_as_settled_as_they_were(network: RetrievalViT, first: Task, becomes: str | None) -> None:
    """Else the next small task would train slots, and move the features of everything known."""
    config = LearnerConfig(least_images=0, slots=4, epochs=1, least_steps=0, batch=8, settled=3)
    learner = Learner(network, config)
    state = learner.consolidate(learner.start(), first)
    small = stripes("t2", ("gnu", "hen"), seed=2)
    left = changed(learner, state, "bee", becomes)
    assert left.pool_classes == state.pool_classes == 3
    assert not learner.trains_pools(left, small)
    assert not learner.trains_pools(changed(learner, left, "cow", "emu"), small)


def test_a_class_that_no_slots_were_taught_settles_nothing(
    learner: Learner, first: Task, second: Task
) -> None:
    state = learner.consolidate_head(learner.consolidate(learner.start(), first), second)
    for becomes in (None, "ant"):
        assert changed(learner, state, "dog", becomes).pool_classes == 3


def test_a_class_that_is_not_known_cannot_be_changed(learner: Learner, state: LearnerState) -> None:
    with pytest.raises(ValueError, match=r"no class is called 'fox'"):
        changed(learner, state, "fox", "ant")


def test_orders_are_in_the_file_and_files_without_any_are_read(
    learner: Learner, state: LearnerState, tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    left = replace(without_class(learner, state, "bee"), changed=("o1",))
    left.save(path)
    loaded = LearnerState.load(path)
    assert (loaded.changed, loaded.gone) == (("o1",), {"t1": 1})
    assert loaded.knows("o1")
    assert loaded.held_out.keys() == left.held_out.keys()
    tensors, facts = read_tensors(path)
    write_tensors(
        path, tensors, {name: fact for name, fact in facts.items() if name not in ("changed", "gone")}
    )
    older = LearnerState.load(path)
    assert (older.changed, older.gone) == ((), {})
