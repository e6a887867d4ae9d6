"""Learning one task after another: what must be exact, what must not be lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model import covariances, left_out
from model.calibration import assumed_sharpness
from model.head import Discriminant
from model.moments import ClassMoments
from model.network import RetrievalViT
from model.pools import Pools
from tests.trainer.conftest import accuracy, stripes
from trainer.learning import learner as learners
from trainer.learning.config import LearnerConfig
from trainer.learning.epochs import Diverged, EpochState
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task, interleaved


def same(left: LearnerState, right: LearnerState) -> bool:
    pairs = [
        (left.pools.keys, right.pools.keys),
        (left.pools.values, right.pools.values),
        (left.pools.feedback, right.pools.feedback),
        (left.moments.gram, right.moments.gram),
        (left.moments.sums, right.moments.sums),
        (left.moments.scatter, right.moments.scatter),
    ]
    return all(torch.equal(a, b) for a, b in pairs) and left.tasks == right.tasks


def test_the_fast_head_knows_new_classes_and_keeps_the_old(
    learner: Learner, first: Task, second: Task
) -> None:
    state = learner.learn_fast(learner.learn_fast(learner.start(), first), second)
    assert accuracy(learner, state, first) > 0.9
    assert accuracy(learner, state, second) > 0.9
    assert state.pools.slots == 0
    assert state.tasks == ()


def test_the_fast_head_is_the_same_in_any_order_of_tasks(learner: Learner, first: Task, second: Task) -> None:
    start = learner.start()
    one = learner.checkpoint(learner.learn_fast(learner.learn_fast(start, first), second))
    other = learner.checkpoint(learner.learn_fast(learner.learn_fast(start, second), first))
    columns = dict(zip(other.labels, other.head.weight.T, strict=True))
    for label, column in zip(one.labels, one.head.weight.T, strict=True):
        torch.testing.assert_close(column, columns[label], rtol=1e-4, atol=1e-4)


def test_tasks_learned_together_give_the_head_of_one_after_another_and_take_one_solve(
    learner: Learner, first: Task, second: Task, solved: list[int]
) -> None:
    again = replace(second, id="t3", labels=("elk", "fox") * (len(second.labels) // 2))
    apart = reduce(learner.learn_fast, [first, second, again], learner.start())
    solved.clear()
    together = learner.learn_all_fast(learner.start(), [first, second, again])
    assert solved == [6]
    assert together.labels == apart.labels
    torch.testing.assert_close(together.head.weight, apart.head.weight)
    torch.testing.assert_close(together.head.bias, apart.head.bias)
    assert together.judged.keys() == {"t1", "t2", "t3"}
    assert together.judged["t3"].ratio == pytest.approx(
        apart.judged["t3"].ratio
    )  # the last one knew all of them either way
    assumed = assumed_sharpness(together.moments.means, together.head.weight)
    assert together.head.sharpness == pytest.approx(together.sharpness.ratio * assumed, rel=1e-3)


def test_the_same_task_on_the_same_state_is_solved_once_as_long_as_somebody_holds_what_came_of_it(
    learner: Learner, first: Task, second: Task, solved: list[int]
) -> None:
    start = learner.start()
    fast = learner.learn_fast(start, first)
    assert learner.consolidate_head(start, first) == fast.having_learned("t1", first.labels)
    assert solved == [3]
    learner.learn_fast(fast, second)
    learner.learn_fast(start, replace(first))
    learner.learn_fast(learner.start(), first)
    assert solved == [3, 5, 3, 3], "another state, another task"
    learner.consolidate_head(start, first)
    assert solved == [3, 5, 3, 3, 3]


def test_images_are_left_out_once_for_all_that_a_task_says(
    learner: Learner, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, distances = [], left_out.left_out_distances

    def counted(found: Discriminant, features: Tensor, rows: Tensor) -> Tensor:
        left.append(len(features))
        return distances(found, features, rows)

    monkeypatch.setattr(left_out, "left_out_distances", counted)
    learned = learner.learn_all_fast(learner.start(), [first, second])
    assert left == [36, 24]
    assert [said.weight for said in learned.judged.values()] == [36 * 60, 24 * 60]
    assert [said.images for said in learned.usual.values()] == [36, 24]


def test_of_tasks_that_wait_only_those_judge_a_head_whose_features_or_images_are_new(
    learner: Learner, first: Task, second: Task, judges: list[int]
) -> None:
    third, begun = stripes("t3", ("fox", "gnu"), seed=2), second.pick(range(0, 24, 2))
    fast = reduce(learner.learn_fast, [first, begun], learner.start())
    base = learner.consolidate_head(learner.start(), first)
    judges.clear()
    served = learner.learn_all_fast(base, [begun, third])
    assert judges == [len(third.labels)]
    assert served.judged["t2"] == fast.judged["t2"]
    assert served.usual["t2"] == fast.usual["t2"]
    torch.testing.assert_close(served.head.weight[:, :5], learner.learn_fast(fast, third).head.weight[:, :5])
    judges.clear()
    learner.learn_all_fast(base, [second, third])
    assert judges == [len(second.labels)], "served in part until now"
    judges.clear()
    learner.learn_all_fast(learner.consolidate(learner.start(), first), [second, third])
    assert judges == [36, 24, 24], "elsewhere once slots were trained"


def test_a_long_task_is_begun_with_every_class_and_no_image_is_looked_at_again(
    learner: Learner, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, extract = [], learner.extract

    def counted(pools: Pools, pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return extract(pools, pixels)

    monkeypatch.setattr(learner, "extract", counted)
    start = learner.start()
    part = learner.begun(start.pools, first, patience_s=0.0)
    assert sorted(part.labels) == ["ant"] * 3 + ["bee"] * 3 + ["cow"] * 2
    assert learner.learn_fast(start, part).labels == ("ant", "bee", "cow")
    features = learner.described(start.pools, first)
    assert sum(seen) == len(first.labels)
    torch.testing.assert_close(features, extract(start.pools, first.pixels))
    assert learner.begun(start.pools, replace(first), patience_s=60).labels == first.labels


def test_what_was_begun_under_other_pools_is_looked_at_again(
    learner: Learner, first: Task, second: Task
) -> None:
    begun_on = learner.start()
    learner.begun(begun_on.pools, second, patience_s=0.0)
    pools = learner.consolidate(begun_on, first).pools
    torch.testing.assert_close(learner.described(pools, second), learner.extract(pools, second.pixels))


def test_rows_take_turns_by_class() -> None:
    assert interleaved(["a", "a", "a", "b", "c", "c"]).tolist() == [0, 3, 4, 1, 5, 2]


def test_consolidation_brings_slots_and_keeps_both_tasks(learner: Learner, first: Task, second: Task) -> None:
    after_one = learner.consolidate(learner.start(), first)
    after_two = learner.consolidate(after_one, second)
    assert after_two.pools.slot_tasks == ("t1",) * 4 + ("t2",) * 4
    assert torch.equal(after_two.pools.keys[:, :4], after_one.pools.keys)
    assert torch.equal(after_two.pools.values[:, :4], after_one.pools.values)
    assert after_two.tasks == ("t1", "t2")
    assert accuracy(learner, after_two, first) > 0.9
    assert accuracy(learner, after_two, second) > 0.9


def test_resuming_after_an_epoch_equals_never_stopping(learner: Learner, first: Task, second: Task) -> None:
    before = learner.consolidate(learner.start(), first)
    epochs: list[EpochState] = []
    whole = learner.consolidate(before, second, on_epoch=epochs.append)
    assert epochs[-1].epoch == 3
    for epoch in epochs:
        assert same(learner.consolidate(before, second, resume=epoch), whole)


def test_a_state_survives_the_disk(learner: Learner, first: Task, second: Task, tmp_path: Path) -> None:
    state = learner.consolidate(learner.start(), first)
    state.save(tmp_path / "state.safetensors")
    loaded = LearnerState.load(tmp_path / "state.safetensors")
    assert same(loaded, state)
    assert same(learner.consolidate(loaded, second), learner.consolidate(state, second))


def test_a_strange_image_is_told_from_those_of_both_tasks(
    learner: Learner, first: Task, second: Task
) -> None:
    state = learner.learn_fast(learner.consolidate(learner.start(), first), second)
    assert set(state.usual) == {"t1", "t2"}
    noise = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    assert state.head.familiar(learner.extract(state.pools, noise.byte())).max() < 0.01
    for task in (first, second):
        assert state.head.familiar(learner.extract(state.pools, task.pixels)).median() > 0.1


def test_one_image_is_a_task(learner: Learner, first: Task) -> None:
    state = learner.consolidate(learner.start(), Task("t0", first.pixels[:1], first.labels[:1]))
    assert accuracy(learner, state, Task("t0", first.pixels[:1], first.labels[:1])) == 1


def test_labels_may_come_again(learner: Learner, first: Task) -> None:
    again = replace(first, id="t2")
    state = learner.consolidate(learner.consolidate(learner.start(), first), again)
    assert state.labels == ("ant", "bee", "cow")
    assert accuracy(learner, state, first) > 0.9


def test_progress_may_abandon_a_task(learner: Learner, first: Task) -> None:
    class Abandoned(Exception):
        pass

    def progress(share: float, figures: dict[str, float]) -> None:
        assert 0 < share <= 1
        assert figures.keys() == {"loss", "train_accuracy"}
        if share > 0.5:
            raise Abandoned

    with pytest.raises(Abandoned):
        learner.consolidate(learner.start(), first, progress)


def test_it_may_be_abandoned_before_any_batch_of_images(network: RetrievalViT, first: Task) -> None:
    class Abandoned(Exception):
        pass

    batches = 0

    def pause() -> None:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise Abandoned

    learner = Learner(network, LearnerConfig(batch=8), pause)
    with pytest.raises(Abandoned):
        learner.learn_fast(learner.start(), first)
    assert batches == 3


def test_it_may_be_abandoned_between_the_steps_of_solving_a_head(
    learner: Learner, first: Task, second: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes seconds on a wide backbone, and a trainer that is asked to stop is given twenty."""
    happened: list[str] = []

    def noted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: (happened.append(what), function(*arguments))[1]

    for place, name in (
        (torch.linalg, "cholesky"),
        (covariances, "own_directions"),
        (learners, "fit_drift"),
        (learners, "fit_sharpness"),
        (ClassMoments, "observe"),
    ):
        monkeypatch.setattr(place, name, noted(name, getattr(place, name)))
    monkeypatch.setattr(learner, "pause", lambda: happened.append("pause"))
    monkeypatch.setattr(learners, "OBSERVED", 20)
    learner.consolidate(learner.consolidate_head(learner.start(), first), second)
    steps = [what for what in happened if what != "pause"]
    assert steps.count("cholesky") >= 4
    assert steps.count("observe") == 4, "of 36 and 24 images, 20 at a time"
    assert set(steps) == {"cholesky", "own_directions", "fit_drift", "fit_sharpness", "observe"}
    assert all(happened[place - 1] == "pause" for place, what in enumerate(happened) if what != "pause")


def test_moments_of_many_images_are_the_same_whatever_their_number_at_once(
    learner: Learner, first: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = learner.learn_fast(learner.start(), first)
    monkeypatch.setattr(learners, "OBSERVED", 5)
    apart = learner.learn_fast(learner.start(), replace(first))
    assert apart.labels == at_once.labels
    torch.testing.assert_close(apart.moments.gram, at_once.moments.gram)
    torch.testing.assert_close(apart.moments.scatter, at_once.moments.scatter, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(apart.head.weight, at_once.head.weight, rtol=1e-4, atol=1e-4)


def test_images_and_labels_come_in_pairs(first: Task) -> None:
    with pytest.raises(ValueError, match="2 labels for 36 images"):
        replace(first, labels=first.labels[:2])


def test_each_image_passes_the_backbone_once(network: RetrievalViT, first: Task, passed: list[int]) -> None:
    learner = Learner(network, LearnerConfig(epochs=0, batch=12))
    fast = learner.learn_fast(learner.start(), first)
    assert passed == [12] * 3
    assert same(learner.consolidate(fast, first), learner.learn_fast(fast, first).having_learned("t1", ()))
    assert passed == [12] * 3
    start = learner.start()
    learner.learn_fast(start, first)
    assert passed == [12] * 3, "pools that hold the same"
    learner.learn_fast(replace(start, pools=replace(start.pools, feedback=-start.pools.feedback)), first)
    assert passed == [12] * 6, "other pools, other features"


def test_a_correction_leaves_scores_as_sure_where_each_class_had_one_image(learner: Learner) -> None:
    task = stripes("t", ("cat", "dog"))
    cats, dog = [row for row, label in enumerate(task.labels) if label == "cat"], task.labels.index("dog")
    state = learner.learn_fast(learner.start(), task.pick([cats[0], dog]))
    more = learner.observe(state, learner.extract(state.pools, task.pixels[cats[1:2]]), ("cat",))
    scores = more.head.logits(learner.extract(more.pools, task.pixels[[cats[0], dog]])).softmax(dim=1)
    assert scores.diagonal().min() > 0.6


@pytest.mark.parametrize("batch", [8, 36])
def test_training_that_diverges_says_so_even_if_only_its_last_update_did(
    network: RetrievalViT, first: Task, batch: int
) -> None:
    """With all images in one batch the loss of the only update is that of before it."""
    config = LearnerConfig(least_images=0, slots=4, epochs=1, least_steps=0, batch=batch, lr=1e20)
    learner = Learner(network, config)
    with pytest.raises(Diverged):
        learner.consolidate(learner.start(), first)
