"""No image counts twice under one label: not within a task, not in a folder that grew, not after a crash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exchange.records import Sample, TaskState
from tests.trainer.bench import Bench
from tests.trainer.conftest import stripes
from trainer.intake.images import digests_of, each_once
from trainer.learning.forget import without_classes
from trainer.learning.learner import Learner
from trainer.learning.seen import Seen
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.store.validation_shelf import ValidationShelf


def numbered(task: Task, start: int = 0) -> Task:
    """The task, its images told apart by numbers."""
    return replace(task, digests=torch.arange(start, start + len(task.labels)))


def grown(task: Task, new_id: str, label: str) -> Task:
    """All of a numbered task again, and half as many new images of another label."""
    more = stripes(new_id, (label,), per_class=len(task.labels) // 2, seed=7)
    return Task(
        new_id,
        torch.cat([task.pixels, more.pixels]),
        task.labels + more.labels,
        torch.arange(len(task.labels) + len(more.labels)),
    )


def test_what_is_new_is_told_label_by_label() -> None:
    seen = Seen().plus(("ant", "ant", "bee"), torch.tensor([1, 2, 1]))
    assert seen.new(("ant", "bee", "bee", "cow"), torch.tensor([2, 2, 1, 1])).tolist() == [
        False,
        True,
        False,
        True,
    ]
    assert seen.new(("ant", "bee"), torch.empty(0, dtype=torch.int64)).tolist() == [True, True]
    assert len(seen) == 3
    assert len(seen.joined(seen)) == 3
    assert seen.without({"ant"}).new(("ant", "bee"), torch.tensor([1, 1])).tolist() == [True, False]


def test_what_was_seen_is_put_together_as_it_was() -> None:
    seen = Seen().plus(("ant", "bee", "ant"), torch.tensor([-5, 2**62, 7]))
    again = Seen.put_together(*seen.parts())
    assert not again.new(("ant", "bee", "ant"), torch.tensor([-5, 2**62, 7])).any()
    assert len(Seen.put_together(*Seen().parts())) == 0
    with pytest.raises(ValueError, match="2 images seen, and digests of 3"):
        Seen.put_together(torch.arange(3), {"ant": 2})


def test_digests_tell_files_apart_and_twins_of_one_label_are_left_out() -> None:
    one, other = Sample("ff" * 32, "ant"), Sample("01" * 32, "ant")
    assert digests_of([one, other, one]).tolist() == [-1, 0x0101010101010101, -1]
    assert each_once([one, other, one, replace(one, label="bee")]) == (one, other, replace(one, label="bee"))


def test_a_task_learned_again_changes_nothing(learner: Learner, first: Task) -> None:
    first = numbered(first)
    once = learner.consolidate(learner.start(), first)
    twice = learner.consolidate(once, replace(first, id="again"))
    assert torch.equal(twice.moments.gram, once.moments.gram)
    assert torch.equal(twice.head.weight, once.head.weight)
    assert twice.head.sharpness == once.head.sharpness
    assert twice.pools.slots == once.pools.slots
    assert twice.tasks == ("t1", "again")


def test_of_a_folder_that_grew_only_what_is_new_passes_the_backbone_and_counts(
    learner: Learner, first: Task, passed: list[int]
) -> None:
    first = numbered(first)
    state, folder = learner.consolidate_head(learner.start(), first), grown(first, "t2", "dog")
    passed.clear()
    fast = learner.learn_fast(state, folder)
    after = learner.consolidate_head(state, folder)
    assert sum(passed) == 18
    counts = {"ant": 12, "bee": 12, "cow": 12, "dog": 18}
    for found in (fast, after):
        assert dict(zip(found.labels, found.moments.counts.tolist(), strict=True)) == counts


def test_tasks_that_wait_together_share_no_image(learner: Learner, first: Task) -> None:
    first = numbered(first)
    together = learner.learn_all_fast(learner.start(), [first, grown(first, "t2", "dog")])
    assert together.images == 36 + 18
    apart = learner.learn_fast(learner.learn_fast(learner.start(), first), grown(first, "t2", "dog"))
    torch.testing.assert_close(together.head.weight, apart.head.weight)


def test_what_was_held_out_is_not_learned_later(learner: Learner, first: Task) -> None:
    first = numbered(first)
    order = [*range(0, 36, 2), *range(1, 36, 2)]
    part, held = first.pick(order).split(18)
    assert held is not None
    state = learner.consolidate_head(learner.start(), part)
    assert learner.consolidate_head(state, replace(first, id="t2")).images == 18


def test_what_is_known_of_some_labels_is_told_without_the_others(learner: Learner, first: Task) -> None:
    first = numbered(first)
    part, _ = first.pick([*range(0, 36, 2), *range(1, 36, 2)]).split(18)
    state = learner.consolidate_head(learner.start(), part)
    known = state.known_of(("ant", "dog"))
    assert set(known.images) == {"ant"}
    assert known.images["ant"].equal(state.known.images["ant"])
    assert len(known) == 12


def test_an_image_of_a_forgotten_label_can_be_taught_again(
    learner: Learner, first: Task, tmp_path: Path
) -> None:
    first = numbered(first)
    state = learner.consolidate_head(learner.start(), first)
    state.save(tmp_path / "state")
    loaded = LearnerState.load(tmp_path / "state")
    assert learner.consolidate_head(loaded, replace(first, id="t2")).images == 36
    bare = without_classes(learner, loaded, "t1")
    assert bare.images == 0
    assert learner.consolidate_head(bare, replace(first, id="t2")).images == 36


def test_a_folder_handed_in_again_is_learned_once(bench: Bench, first: Task) -> None:
    with_twins = first.pick([*range(36), 0, 1, 2])
    with bench.trainer():
        one = bench.wait_for(bench.submit(with_twins), TaskState.CONSOLIDATED)
        before = bench.state()
        again = bench.wait_for(bench.submit(replace(first, id="again")), TaskState.CONSOLIDATED)
        more = bench.wait_for(bench.submit(grown(first, "more", "dog")), TaskState.CONSOLIDATED)
    assert one.metrics["repeated_images"] == 3
    assert before.images == 33  # three are held out
    assert again.metrics["repeated_images"] == 36
    assert more.metrics["repeated_images"] == 36
    assert again.version == one.version, "nothing new is no new version"
    after = bench.state()
    assert after.images == before.images + 18 - 1  # one of the new ones is held out
    assert len(after.known) == 36 + 18
    assert len(after.seen) == after.images


def test_files_under_two_labels_are_counted(bench: Bench, first: Task) -> None:
    both = first.pick([*range(36), 0])  # one file of an ant is said to be a cow as well
    both = replace(both, labels=(*first.labels, "cow"))
    wrong = replace(first.pick(range(12)), id="wrong", labels=("bee",) * 12)
    with bench.trainer():
        one = bench.wait_for(bench.submit(both), TaskState.CONSOLIDATED)
        again = bench.wait_for(bench.submit(replace(first, id="again")), TaskState.CONSOLIDATED)
        two = bench.wait_for(bench.submit(wrong), TaskState.CONSOLIDATED)
        fine = bench.wait_for(bench.submit(stripes("t2", ("dog", "elk"), seed=1)), TaskState.CONSOLIDATED)
    assert one.metrics["contradicting_images"] == 1
    assert again.metrics["contradicting_images"] == 1, "that one is still known under both"
    assert two.metrics["contradicting_images"] == 12
    assert "contradicting_images" not in fine.metrics


def test_tasks_of_the_same_images_that_wait_together_are_learned_once(bench: Bench, first: Task) -> None:
    tasks = [bench.submit(replace(first, id=f"t{number}")) for number in range(3)]
    with bench.trainer():
        for task in tasks:
            bench.wait_for(task, TaskState.CONSOLIDATED)
    assert bench.state().images == 33  # three are held out
    assert len(bench.state().known) == 36


def test_the_same_part_is_found_by_label_too(learner: Learner, first: Task) -> None:
    both = Task("both", first.pixels[[0, 0]], ("ant", "bee"), torch.tensor([5, 5]))
    for known, new in (("ant", "bee"), ("bee", "ant")):
        alone = Task(known, first.pixels[:1], (known,), torch.tensor([5]))
        state = learner.consolidate_head(learner.consolidate_head(learner.start(), alone), both)
        assert dict(zip(state.labels, state.moments.counts.tolist(), strict=True)) == {known: 1, new: 1}


def test_what_is_new_in_one_piece_is_not_copied(learner: Learner, first: Task) -> None:
    first = numbered(first)
    state = learner.consolidate_head(learner.start(), first.pick(range(30, 36)))
    part = learner.unseen(state, first)
    assert part is not None
    assert len(part.labels) == 30
    assert part.pixels.data_ptr() == first.pixels.data_ptr()


def test_classes_that_a_grown_folder_keeps_stay_as_sure_when_the_first_is_forgotten(
    learner: Learner, first: Task
) -> None:
    first = numbered(first)
    state = learner.consolidate_head(
        learner.consolidate_head(learner.start(), first), grown(first, "t2", "dog")
    )
    left = without_classes(learner, state, "t1")
    assert left.labels == state.labels
    assert left.head.sharpness == pytest.approx(state.head.sharpness, rel=1e-3)
    assert left.head.familiarity is not None
    assert set(left.judged) == set(left.usual) == {"t2"}
    assert without_classes(learner, left, "t2").judged == {}


def test_what_was_held_out_of_a_forgotten_task_can_be_learned(learner: Learner, first: Task) -> None:
    first = numbered(first)
    part, held = first.pick([*range(0, 36, 2), *range(1, 36, 2)]).split(18)
    assert held is not None
    more = Task("t2", first.pixels[:1], ("ant",), torch.tensor([99]))
    state = without_classes(
        learner, learner.consolidate_head(learner.consolidate_head(learner.start(), part), more), "t1"
    )
    assert state.labels == ("ant",)
    assert learner.consolidate_head(state, replace(held, id="t3")).images == state.images + 18


def test_held_out_images_that_were_learned_meanwhile_are_measured_no_more(
    first: Task, tmp_path: Path
) -> None:
    shelf, held = ValidationShelf(tmp_path), numbered(first.pick([0, 1, 12]))
    shelf.save(held)
    shelf.leave_out("t1", Seen().plus(("ant",), torch.tensor([0])))
    left = shelf.load("t1")
    assert left is not None
    assert left.labels == ("ant", "bee")
    shelf.leave_out("t1", held.seen)
    assert not shelf.holds("t1")
