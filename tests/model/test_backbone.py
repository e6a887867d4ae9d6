"""A file of weights is one of the backbone named, or what differs is told in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from model.backbone import UnfitWeights, load_backbone
from model.spec import BackboneSpec


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Of the model test_vit2."""
    return timm.create_model("test_vit2").state_dict()


def differs(path: Path, name: str = "test_vit2") -> str:
    """What is said of a file of weights after its path and the backbone."""
    with pytest.raises(UnfitWeights) as caught:
        load_backbone(BackboneSpec(name, path, 32))
    told, _, rest = str(caught.value).partition(f"; it must be a safetensors file of {name}: ")
    assert told == f"weights is {path}"
    assert "\n" not in rest
    return rest


def test_the_weights_of_the_backbone_are_taken(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "w.safetensors")
    spec = BackboneSpec("test_vit2", tmp_path / "w.safetensors", 32)
    assert load_backbone(spec).identity == load_backbone(spec).identity


def test_no_safetensors_file(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "rose.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(1000))
    assert differs(tmp_path / "rose.jpg") == "it is none, or cut short"
    assert differs(tmp_path / "rose.jpg", "bundled").startswith("rose.json does not lie beside it")
    save_file(weights, tmp_path / "w.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-100])
    assert differs(tmp_path / "cut.safetensors") == "it is none, or cut short"
    (tmp_path / "w.safetensors").rename(tmp_path / "w.bin")
    assert differs(tmp_path / "w.bin") == "its name does not end in .safetensors"


def test_another_size(tmp_path: Path) -> None:
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "tiny.safetensors")
    told = differs(tmp_path / "tiny.safetensors")
    assert told.startswith("size mismatch for ")
    assert told.count("size mismatch") == 1


def test_what_a_file_lacks_is_not_left_random(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    assert differs(tmp_path / "other.safetensors").startswith("it lacks ")
    part = {name: tensor for name, tensor in weights.items() if name != "blocks.3.attn.qkv.weight"}
    save_file(part, tmp_path / "part.safetensors")
    assert differs(tmp_path / "part.safetensors") == "it lacks blocks.3.attn.qkv.weight"
