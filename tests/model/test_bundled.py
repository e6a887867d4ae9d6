"""The bundled backbone: it loads, it says what it is, and it refuses files that are not what it says."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.bundled import BUNDLED, BundledWeightsInvalid, load_bundled


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The packaged weights and their description, copied to where a test may spoil them."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(BUNDLED.with_suffix(suffix), tmp_path)
    return tmp_path / BUNDLED.name


def test_the_packaged_backbone_gives_one_finite_vector_an_image() -> None:
    vit, card = load_bundled()
    mean, std = (torch.tensor(channels).view(3, 1, 1) for channels in (card.mean, card.std))
    images = (torch.rand(2, 3, card.px, card.px) - mean) / std
    with torch.inference_mode():
        vectors = vit(images)
    assert vectors.shape == (2, vit.num_features)
    assert vectors.dtype == torch.float32
    assert vectors.isfinite().all()
    assert not vit.training


def test_layers_one_to_seven_exist_for_the_pools() -> None:
    vit, _ = load_bundled()
    assert len(vit.blocks) >= 8


def test_the_weights_fit_the_size_allowed_in_the_package() -> None:
    assert BUNDLED.stat().st_size <= 12 * 2**20


def test_the_card_states_the_same_hash_as_the_loader() -> None:
    _, card = load_bundled()
    assert card.sha256 in BUNDLED.with_name("README.md").read_text()


def test_weights_elsewhere_are_found_with_their_description(copied: Path) -> None:
    _, card = load_bundled(copied)
    assert card == load_bundled()[1]


def test_a_truncated_file_is_refused(copied: Path) -> None:
    copied.write_bytes(copied.read_bytes()[:-100])
    with pytest.raises(BundledWeightsInvalid, match="cut short or altered"):
        load_bundled(copied)


def test_one_flipped_bit_is_refused(copied: Path) -> None:
    data = bytearray(copied.read_bytes())
    data[-1] ^= 1
    copied.write_bytes(data)
    with pytest.raises(BundledWeightsInvalid, match="sha256"):
        load_bundled(copied)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_missing_file_is_named(copied: Path, suffix: str) -> None:
    missing = copied.with_suffix(suffix)
    missing.unlink()
    with pytest.raises(BundledWeightsInvalid, match=f"cannot read .*{missing.name}"):
        load_bundled(copied)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"architecture": 3}'])
def test_a_description_that_is_none_is_refused(copied: Path, text: str) -> None:
    copied.with_suffix(".json").write_text(text)
    with pytest.raises(BundledWeightsInvalid, match="does not describe a backbone"):
        load_bundled(copied)


def test_weights_of_another_architecture_are_refused(copied: Path) -> None:
    description = copied.with_suffix(".json")
    fields = json.loads(description.read_text())
    fields["architecture"]["depth"] -= 1
    description.write_text(json.dumps(fields))
    with pytest.raises(BundledWeightsInvalid, match="does not fit"):
        load_bundled(copied)
