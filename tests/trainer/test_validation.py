from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainer.config import ValidationConfig
from trainer.learner import Learner, Task
from trainer.validation import Report, ValidationShelf, hold_out, validate

TENTH = ValidationConfig(share=0.1)


def test_a_share_of_each_class_is_held_out_the_same_way_every_time(first: Task) -> None:
    kept, held = hold_out(first, TENTH)
    assert held is not None
    assert sorted(held.labels) == ["ant", "bee", "cow"]
    assert len(kept.labels) == 33
    both = torch.cat([kept.pixels, held.pixels]).flatten(1)
    assert both.unique(dim=0).shape == first.pixels.flatten(1).unique(dim=0).shape
    again = hold_out(first, TENTH)[1]
    assert again is not None
    assert torch.equal(again.pixels, held.pixels)


def test_small_classes_and_a_share_of_zero_give_nothing(first: Task) -> None:
    assert hold_out(first, ValidationConfig(share=0.0)) == (first, None)
    assert hold_out(first, ValidationConfig(share=0.05)) == (first, None)


def test_at_most_so_many_a_class(first: Task) -> None:
    _, held = hold_out(first, ValidationConfig(share=0.5, per_class=2))
    assert held is not None
    assert len(held.labels) == 6


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


def test_a_state_is_measured_on_every_task_it_knows(
    learner: Learner, first: Task, second: Task, tmp_path: Path
) -> None:
    shelf, state = ValidationShelf(tmp_path), learner.start()
    for task in (first, second):
        kept, held = hold_out(task, TENTH)
        assert held is not None
        shelf.save(held)
        state = validate(learner, state := learner.adopt(state, kept), shelf, TENTH).noted(state)
    report = validate(learner, state, shelf, TENTH)
    assert report.now.keys() == {"t1", "t2"}
    assert report.metrics["accuracy"] == sum(report.now.values()) / 2
    assert state.best.keys() == {"t1", "t2"}
    wrong = Task("t1", shelf.load("t1").pixels, ("dog",) * 3)  # type: ignore[union-attr]
    shelf.save(wrong)
    assert validate(learner, state, shelf, TENTH).now["t1"] == 0


def test_forgetting_is_the_mean_fall_from_the_best() -> None:
    report = Report(now={"a": 0.6, "b": 0.9, "c": 1.0}, last={"a": 0.7, "b": 0.8}, best={"a": 0.9, "b": 0.8})
    assert report.metrics["accuracy"] == pytest.approx(2.5 / 3)
    assert report.metrics["forgetting"] == pytest.approx(0.1)
    assert report.lost == pytest.approx(0.0)
    assert replace(report, now={"a": 0.1, "b": 0.6}).lost == pytest.approx(0.4)
    assert Report({}, {}, {}).metrics == {}
