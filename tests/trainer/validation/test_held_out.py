from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from exchange.errors import StoreUnavailable
from trainer.learning.config import ValidationConfig
from trainer.learning.learner import Learner
from trainer.learning.seen import Seen
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.store import task_files
from trainer.store.validation_shelf import ValidationShelf
from trainer.validation.held_out import as_known, hold_out, validate
from trainer.validation.report import Report

TENTH = ValidationConfig(share=0.1)


def drawn(images: int, seed: int = 0) -> Tensor:
    """Digests of so many images."""
    return torch.randint(-(2**63), 2**63 - 1, (images,), generator=torch.Generator().manual_seed(seed))


def split(
    labels: Sequence[str], config: ValidationConfig, *known: Collection[int]
) -> tuple[list[int], list[int]]:
    return hold_out(labels, drawn(len(labels)), config, *known)


def test_a_share_of_each_class_is_held_out_the_same_way_every_time(first: Task) -> None:
    kept, held = split(first.labels, TENTH)
    assert sorted(first.labels[row] for row in held) == ["ant", "bee", "cow"]
    assert sorted(kept + held) == list(range(36))
    assert split(first.labels, TENTH) == (kept, held)


def test_what_is_held_out_of_a_class_is_up_to_its_images_alone(first: Task) -> None:
    digests = drawn(36)
    _, held = hold_out(first.labels, digests, TENTH)
    turned = list(range(35, -1, -1))
    _, again = hold_out([first.labels[row] for row in turned], digests[turned], TENTH)
    assert sorted(turned[place] for place in again) == held, "in whatever order they come"
    fewer = [*range(2, 12), *range(12, 36)]
    _, others = hold_out([first.labels[row] for row in fewer], digests[fewer], TENTH)
    assert [fewer[place] for place in others][-2:] == held[-2:], "whatever another class is of"
    assert held != hold_out(first.labels, drawn(36, seed=1), TENTH)[1]


class Counted(str):
    """A label that counts how often it was compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_each_label_is_looked_at_a_few_times_however_many_classes_there_are() -> None:
    labels = tuple(Counted(row % 200) for row in range(4000))
    Counted.compared = 0
    kept, held = split(labels, TENTH)
    assert Counted.compared < 3 * len(labels)
    assert len(held) == 400
    assert sorted(kept + held) == list(range(4000))


def test_small_classes_and_a_share_of_zero_give_nothing(first: Task) -> None:
    for share in (0.0, 0.05):
        assert split(first.labels, ValidationConfig(share=share)) == (list(range(36)), [])


@pytest.mark.parametrize(
    ("learned", "held_before", "held"),
    [
        (30, 0, 4),
        (33, 0, 3),  # half of the 7 that are new at most
        (30, 3, 1),
        (30, 4, 0),
        (30, 9, 0),
        (38, 0, 1),
        (39, 0, 0),
        (40, 0, 0),
    ],
)
def test_a_folder_that_grows_adds_to_what_is_held_out(learned: int, held_before: int, held: int) -> None:
    known = range(learned), range(learned, learned + held_before)
    kept, held_out = split(("ant",) * 40, TENTH, *known)
    assert len(held_out) == held
    assert min(held_out, default=40) >= learned + held_before
    assert sorted(kept + held_out) == list(range(40))


def test_at_most_so_many_a_class(first: Task) -> None:
    _, held = split(first.labels, ValidationConfig(share=0.5, per_class=2))
    assert len(held) == 6


def test_held_out_images_survive_the_disk_and_a_damaged_file_is_no_measure(
    first: Task, tmp_path: Path
) -> None:
    shelf = ValidationShelf(tmp_path)
    shelf.save(first)
    loaded = shelf.load("t1")
    assert loaded is not None
    assert torch.equal(loaded.pixels, first.pixels)
    assert loaded.labels == first.labels
    (tmp_path / "t1.safetensors").write_bytes(b"damaged")
    assert shelf.load("t1") is None
    assert shelf.load("t2") is None


def test_nothing_half_written_stays_on_the_disk(
    first: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    shelf = ValidationShelf(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(task_files, "make_durable", full)
        with pytest.raises(StoreUnavailable, match=r"No space left"):
            shelf.save(first)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "t1.part").write_bytes(b"left by a trainer that was killed")
    shelf = ValidationShelf(tmp_path)
    assert list(tmp_path.iterdir()) == []
    shelf.save(first)
    assert [path.name for path in tmp_path.iterdir()] == ["t1.safetensors"]


def test_a_state_is_measured_on_every_task_it_knows(
    learner: Learner, first: Task, second: Task, tmp_path: Path
) -> None:
    shelf, state = ValidationShelf(tmp_path), learner.start()
    for task in (first, second):
        kept, held = split(task.labels, TENTH)
        shelf.save(task.pick(held))
        known = state.labels
        state = learner.consolidate_head(state, task.pick(kept))
        state = validate(learner, state, shelf, TENTH, known).noted(state)
    report = validate(learner, state, shelf, TENTH, known)
    assert report.now.keys() == {"t1", "t2"}
    assert report.metrics["accuracy"] == sum(report.now.values()) / 2
    assert state.best.keys() == {"t1", "t2"}
    wrong = Task("t1", shelf.load("t1").pixels, ("dog",) * 3)  # type: ignore[union-attr]
    shelf.save(wrong)
    after = validate(learner, state, shelf, TENTH, known)
    assert after.now["t1"] == after.kept["t1"] == 0
    assert after.earlier_images == 5


def test_classes_that_are_new_take_nothing_from_what_was_kept(
    learner: Learner, first: Task, tmp_path: Path
) -> None:
    """The same images under new names: some answers change, and none among the labels known before."""
    shelf = ValidationShelf(tmp_path)
    shelf.save(first)
    state = learner.consolidate_head(learner.start(), first)
    known = state.labels
    state = validate(learner, state, shelf, TENTH, ()).noted(state)
    twin = Task("t2", first.pixels, tuple(f"{label} again" for label in first.labels))
    report = validate(learner, learner.consolidate_head(state, twin), shelf, TENTH, known)
    assert report.now["t1"] < 1
    assert report.kept["t1"] == state.last["t1"] == 1
    assert report.interference == 0


def test_a_held_out_image_passes_the_backbone_once_under_the_same_pools(
    learner: Learner, first: Task, tmp_path: Path, passed: list[int]
) -> None:
    shelf, state = ValidationShelf(tmp_path / "held_out"), learner.consolidate_head(learner.start(), first)
    shelf.save(first)
    passed.clear()
    report = validate(learner, state, shelf, TENTH, state.labels)
    assert sum(passed) == 36
    state.save(tmp_path / "state")
    assert validate(learner, LearnerState.load(tmp_path / "state"), shelf, TENTH, state.labels) == report
    assert sum(passed) == 36
    fewer = validate(learner, state, shelf, ValidationConfig(images=6), state.labels)
    assert (fewer.held_out_images, sum(passed)) == (6, 36)
    validate(learner, state, shelf, TENTH, state.labels)
    assert sum(passed) == 36 + 30, "only what was measured last is kept"


def test_a_held_out_image_that_changed_or_lies_elsewhere_is_looked_at(
    learner: Learner, first: Task, tmp_path: Path, passed: list[int]
) -> None:
    shelf, state = ValidationShelf(tmp_path), learner.consolidate_head(learner.start(), first)
    shelf.save(first)
    before = validate(learner, state, shelf, TENTH, state.labels)
    passed.clear()
    shelf.save(replace(first, pixels=torch.cat([first.pixels[12:13], 255 - first.pixels[1:]])))
    changed = validate(learner, state, shelf, TENTH, state.labels)
    assert sum(passed) == 35
    assert changed.now["t1"] < before.now["t1"]
    shelf.save(first)
    elsewhere = learner.consolidate(state, replace(first, id="t2"))
    passed.clear()
    validate(learner, elsewhere, shelf, TENTH, state.labels)
    assert sum(passed) == 36
    validate(learner, state, shelf, TENTH, state.labels)
    assert sum(passed) == 36 + 35, "not again what was measured before slots were tried"


def measured_tasks(
    learner: Learner, state: LearnerState, shelf: ValidationShelf, tasks: list[str], images: int
) -> Report:
    """What is said of a state that knows these tasks and measured all of them before."""
    known = replace(state, taught=dict.fromkeys(tasks, ("ant",)), last=dict.fromkeys(tasks, 1.0))
    return validate(learner, known, shelf, ValidationConfig(images=images), state.labels)


def test_tasks_that_hold_nothing_out_take_no_images_from_those_that_do(
    learner: Learner, first: Task, tmp_path: Path
) -> None:
    shelf, state = ValidationShelf(tmp_path), learner.consolidate_head(learner.start(), first)
    for task in "abc":
        shelf.save(replace(first, id=task))
    report = measured_tasks(learner, state, shelf, [*"abc", *map(str, range(50))], 40)
    assert report.earlier_images == 3 * 13
    assert measured_tasks(learner, state, shelf, [*"abc"], 512).earlier_images == 3 * 36


def test_what_small_tasks_leave_falls_to_larger_ones(learner: Learner, first: Task, tmp_path: Path) -> None:
    """Else a large task is measured ever worse, however few images the many after it hold out."""
    shelf, state = ValidationShelf(tmp_path), learner.consolidate_head(learner.start(), first)
    large = replace(first, digests=torch.arange(len(first.labels)))
    tasks = {"large": large} | {name: large.pick([0]) for name in ("small", "tiny", "wee")}
    for name, task in tasks.items():
        shelf.save(replace(task, id=name))
    state = replace(state, held_out={name: task.seen for name, task in tasks.items()})
    report = measured_tasks(learner, state, shelf, [*tasks], 20)
    assert report.images == {"large": 17, "small": 1, "tiny": 1, "wee": 1}


def test_of_more_tasks_than_images_the_same_are_measured_again(
    learner: Learner, first: Task, tmp_path: Path
) -> None:
    shelf, state = ValidationShelf(tmp_path), learner.consolidate_head(learner.start(), first)
    tasks = [f"{number:02}" for number in range(20)]
    for task in tasks:
        shelf.save(replace(first.pick([0]), id=task))
    before = measured_tasks(learner, state, shelf, [tasks[3], *tasks[5:]], 8)
    after = measured_tasks(learner, state, shelf, [tasks[3], *tasks[5:], tasks[4]], 8)
    assert before.earlier_images == after.earlier_images == 8
    assert len(before.now.keys() & after.now.keys()) == 7


def test_forgetting_is_the_mean_fall_of_earlier_tasks_from_their_best() -> None:
    report = Report(
        now={"a": 0.6, "b": 0.9, "c": 1.0},
        kept={"a": 0.6, "b": 0.9},
        last={"a": 0.7, "b": 0.8},
        best={"a": 0.9, "b": 1.0},
        images={"a": 25, "b": 25, "c": 10},
    )
    assert report.metrics["accuracy"] == pytest.approx(2.5 / 3)
    assert report.metrics["forgetting"] == pytest.approx((0.3 + 0.1) / 2)
    risen = replace(report, best={"a": 0.5, "b": 0.8})
    assert risen.metrics["forgetting"] == pytest.approx(-0.1)
    assert replace(report, best={}).metrics["forgetting"] == 0
    assert report.metrics["interference"] == pytest.approx(0.0), (
        "what more classes cost is no fault of the version"
    )
    assert Report({}, {}, {}, {}, {}).metrics == {}


def test_interference_counts_images_alike_so_that_a_task_of_one_decides_nothing_alone() -> None:
    now = {"a": 0.5, "b": 0.0, "c": 1.0}
    report = Report(now, {"a": 0.5, "b": 0.0}, {"a": 0.6, "b": 1.0}, now, {"a": 79, "b": 1, "c": 10})
    assert report.interference == pytest.approx((79 * 0.1 + 1) / 80)
    assert (report.earlier_images, report.held_out_images) == (80, 90)
    assert replace(report, kept={"a": 0.6, "b": 0.0}).refusal(ValidationConfig()) is None


def test_a_version_is_refused_for_what_it_costs_on_enough_images_and_never_when_all_is_tolerated() -> None:
    worse = Report(now={"a": 0.5}, kept={"a": 0.5}, last={"a": 1.0}, best={"a": 1.0}, images={"a": 50})
    reason = worse.refusal(ValidationConfig())
    assert reason is not None
    assert "50.0 points on 50 held-out images" in reason
    assert "HIPPOTUNE_VALIDATION_TOLERATED_LOSS" in reason, "what to do is told where the task failed"
    assert replace(worse, images={"a": 49}).refusal(ValidationConfig()) is None
    assert replace(worse, images={"a": 1}, kept={"a": 0.0}).refusal(ValidationConfig()) is None
    assert worse.refusal(ValidationConfig(tolerated_loss=1.0)) is None
    assert replace(worse, kept={"a": 0.95}).refusal(ValidationConfig()) is None


def test_held_out_images_are_known_by_the_labels_that_a_state_has_for_them(
    first: Task, learner: Learner
) -> None:
    state = learner.consolidate_head(learner.start(), first)
    digests = torch.arange(36)
    named = replace(first, digests=digests)
    held = Seen().plus(("emu",) * 12 + ("bee",) * 12, digests[:24])
    known = replace(
        state,
        moments=state.moments.renamed("ant", "emu").without(frozenset({"cow"})),
        held_out={"t1": held},
    )
    found = as_known(known, named)
    assert found is not None
    assert found.labels == ("emu",) * 12 + ("bee",) * 12
    assert torch.equal(found.pixels, first.pixels[:24])
    assert as_known(replace(known, held_out={}), named) is None, "forgotten, whatever they were called"
    older = as_known(known, first)
    assert older is not None
    assert set(older.labels) == {"bee"}, "without digests, those whose label is known"
    assert as_known(known, None) is None


def test_images_of_a_class_leave_the_file_by_their_digests(first: Task, tmp_path: Path) -> None:
    shelf = ValidationShelf(tmp_path)
    shelf.save(replace(first, digests=torch.arange(36)))
    shelf.forget("t1", "called otherwise by now", torch.arange(12))
    left = shelf.load("t1")
    assert left is not None
    assert set(left.labels) == {"bee", "cow"}
    shelf.save(first)
    shelf.forget("t1", "bee", torch.arange(12))
    left = shelf.load("t1")
    assert left is not None
    assert set(left.labels) == {"ant", "cow"}, "by its label where there are no digests"
    shelf.forget("t2", "bee", torch.arange(12))
