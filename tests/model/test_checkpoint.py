from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.backbone import Backbone, BackboneIdentity
from model.checkpoint import Checkpoint, InvalidCheckpoint
from model.covariances import ClassCovariances
from model.deliberation import LoopConfig
from model.familiarity import Familiarity
from model.head import Head
from model.pools import Pools


@pytest.fixture
def checkpoint(backbone: Backbone, loop: LoopConfig, pools: Pools) -> Checkpoint:
    covariances = ClassCovariances(torch.randn(2, 8, backbone.width), torch.randn(2, 8))
    head = Head(torch.randn(backbone.width, 2), torch.randn(2), sharpness=4.0, covariances=covariances)
    return Checkpoint(backbone.identity, loop, pools, head, ("cat", "dög"))


def test_a_round_trip_changes_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "1.safetensors")
    loaded = Checkpoint.load(tmp_path / "1.safetensors")
    assert (loaded.identity, loaded.loop, loaded.labels) == (
        checkpoint.identity,
        checkpoint.loop,
        checkpoint.labels,
    )
    assert loaded.pools.slot_tasks == checkpoint.pools.slot_tasks
    assert torch.equal(loaded.pools.keys, checkpoint.pools.keys)
    assert torch.equal(loaded.head.weight, checkpoint.head.weight)
    assert loaded.head.sharpness == 4.0
    features = torch.randn(3, len(checkpoint.head.weight))
    assert torch.equal(loaded.head.logits(features), checkpoint.head.logits(features))


def test_a_version_whose_classes_spread_alike_has_no_covariances(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    replace(checkpoint, head=replace(checkpoint.head, covariances=None)).save(tmp_path / "1.safetensors")
    assert Checkpoint.load(tmp_path / "1.safetensors").head.covariances is None


def test_an_empty_checkpoint_round_trips(backbone: Backbone, loop: LoopConfig, tmp_path: Path) -> None:
    Checkpoint.empty(backbone, loop).save(tmp_path / "0.safetensors")
    loaded = Checkpoint.load(tmp_path / "0.safetensors")
    assert loaded.labels == ()
    assert loaded.pools.slots == 0


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(checkpoint: Checkpoint, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "1.safetensors"
    checkpoint.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.load(path)


def test_nan_and_mismatched_parts_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bad_head = replace(checkpoint.head, weight=torch.full_like(checkpoint.head.weight, torch.nan))
    of_other_classes = ClassCovariances(torch.zeros(3, 8, 20), torch.zeros(3, 8))
    of_none = ClassCovariances(torch.zeros(()), torch.zeros(()))
    misshapen = replace(Familiarity.untold(len(checkpoint.head.weight), 2), probes=torch.zeros(()))
    for broken, why in (
        (replace(checkpoint, head=bad_head), "NaN"),
        (replace(checkpoint, head=replace(checkpoint.head, sharpness=1e30)), "too large"),
        (replace(checkpoint, head=replace(checkpoint.head, bias=torch.full((2,), -1e20))), "too large"),
        (replace(checkpoint, labels=("cat",)), "labels"),
        (replace(checkpoint, head=Head(torch.zeros(2), torch.zeros(2))), "labels"),
        (replace(checkpoint, head=Head(checkpoint.head.weight, torch.zeros(()))), "labels"),
        (replace(checkpoint, head=Head(checkpoint.head.weight, torch.zeros(2, 2))), "labels"),
        (
            replace(checkpoint, head=replace(checkpoint.head, covariances=of_other_classes)),
            "spread of classes",
        ),
        (replace(checkpoint, head=replace(checkpoint.head, covariances=of_none)), "spread of classes"),
        (
            replace(checkpoint, head=replace(checkpoint.head, familiarity=Familiarity.untold(20, 3))),
            "familiarity",
        ),
        (replace(checkpoint, head=replace(checkpoint.head, familiarity=misshapen)), "familiarity"),
        (replace(checkpoint, head=replace(checkpoint.head, bias=torch.zeros(2, dtype=torch.int64))), "int64"),
        (replace(checkpoint, loop=LoopConfig(layers=(1, 2))), "layers"),
    ):
        broken.save(tmp_path / "broken.safetensors")
        with pytest.raises(InvalidCheckpoint, match=why):
            Checkpoint.load(tmp_path / "broken.safetensors")


def test_another_backbone_is_refused(checkpoint: Checkpoint, backbone: Backbone) -> None:
    checkpoint.check_fits(backbone)
    other = replace(checkpoint, identity=BackboneIdentity("test", 32, "0" * 64))
    with pytest.raises(InvalidCheckpoint, match="learned on"):
        other.check_fits(backbone)
    narrower = replace(checkpoint, head=Head(checkpoint.head.weight[1:], checkpoint.head.bias))
    with pytest.raises(InvalidCheckpoint, match="numbers of an image"):
        narrower.check_fits(backbone)
