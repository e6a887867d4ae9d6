from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from redis import Redis

from exchange.registry import Registry
from model.network import RetrievalViT
from trainer.learning.config import LearnerConfig, ValidationConfig
from trainer.learning.epochs import EpochState
from trainer.learning.learner import Learner
from trainer.learning.task import Task
from trainer.store import lineage as lineages
from trainer.store.epoch_shelf import EpochShelf
from trainer.store.lineage import Lineage

EPOCH = EpochState(2, {"weight": torch.ones(3)})


def test_an_epoch_survives_the_disk(learner: Learner, first: Task, tmp_path: Path) -> None:
    shelf, epochs, left = EpochShelf(tmp_path), list[EpochState](), list[EpochState]()
    whole = learner.consolidate(learner.start(), first, on_epoch=epochs.append)
    shelf.saver("t1", "basis")(epochs[0])
    again = learner.consolidate(learner.start(), first, None, left.append, shelf.load("t1", "basis"))
    assert len(left) == len(epochs) - 1
    assert torch.equal(again.pools.keys, whole.pools.keys)
    assert torch.equal(again.moments.sums, whole.moments.sums)


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("classifier", "teacher"): tensor for name, tensor in tensors.items()}


def reshaped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor[:1] if name.endswith("weight") else tensor for name, tensor in tensors.items()}


def unlike_in_a_moment(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: tensor[:1] if name.endswith("weight/exp_avg") else tensor for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("other", [renamed, reshaped, unlike_in_a_moment])
def test_an_epoch_of_other_parameters_starts_the_task_over(
    learner: Learner, first: Task, other: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    """An upgrade may name or shape them otherwise."""
    epochs = list[EpochState]()
    whole = learner.consolidate(learner.start(), first, on_epoch=epochs.append)
    resume = replace(epochs[0], tensors=other(epochs[0].tensors))
    again = learner.consolidate(learner.start(), first, resume=resume)
    assert torch.equal(again.pools.keys, whole.pools.keys)


def test_an_epoch_counts_on_its_own_basis_alone(tmp_path: Path) -> None:
    shelf = EpochShelf(tmp_path)
    shelf.saver("t1", "basis")(EPOCH)
    assert shelf.load("t1", "basis") is not None
    assert shelf.load("t1", "another") is None
    assert shelf.load("t2", "basis") is None


def test_the_basis_is_the_backbone_the_settings_and_what_was_learned_before(
    network: RetrievalViT, redis: Redis, first: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LearnerConfig(least_images=0, slots=4, epochs=1, least_steps=0, batch=8, settled=100)
    learner = Learner(network, config)
    lineage = Lineage(Registry(redis, tmp_path), learner)
    start = learner.start()
    one = learner.consolidate(start, first)
    moved = replace(one, pools=replace(one.pools, values=one.pools.values + 1))
    more = learner.observe(one, torch.eye(network.backbone.width)[:1], first.labels[:1])
    bases = [
        lineage.basis(start, ValidationConfig()),
        lineage.basis(one, ValidationConfig()),
        lineage.basis(moved, ValidationConfig()),
        lineage.basis(more, ValidationConfig()),
        lineage.basis(start, ValidationConfig(share=0.2)),
        Lineage(lineage.registry, Learner(network, replace(config, lr=0.1))).basis(start, ValidationConfig()),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(lineages, "EPOCH_FORMAT", 0)
        bases.append(lineage.basis(start, ValidationConfig()))
    assert len(set(bases)) == len(bases)
    assert lineage.basis(learner.start(), ValidationConfig()) == bases[0]


@pytest.mark.parametrize("content", [b"damaged", None])
def test_a_damaged_epoch_starts_the_task_over(tmp_path: Path, content: bytes | None) -> None:
    shelf = EpochShelf(tmp_path)
    shelf.saver("t1", "basis")(EPOCH)
    path = tmp_path / "t1.safetensors"
    path.write_bytes(path.read_bytes()[:-4] if content is None else content)
    assert shelf.load("t1", "basis") is None


def test_a_disk_that_takes_no_epoch_does_not_stop_training(tmp_path: Path) -> None:
    shelf = EpochShelf(tmp_path)
    (tmp_path / "t1.part").mkdir()
    shelf.saver("t1", "basis")(EPOCH)
    assert shelf.load("t1", "basis") is None


def test_what_ended_tasks_left_behind_goes(tmp_path: Path) -> None:
    shelf = EpochShelf(tmp_path)
    for task in ("t1", "t2"):
        shelf.saver(task, "basis")(EPOCH)
    (tmp_path / "t3.part").write_bytes(b"a crash left this")
    (tmp_path / "t4.safetensors").symlink_to(tmp_path / "gone")  # as if it went while the folder is read
    assert shelf.keep_only({"t2"}, time.time() - 60) == 0
    assert shelf.keep_only({"t2"}, time.time() + 60) == 2
    (tmp_path / "t4.safetensors").unlink()
    assert shelf.load("t2", "basis") is not None
    shelf.discard("t2")
    assert list(tmp_path.iterdir()) == []
