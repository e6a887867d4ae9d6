"""What the bundled backbone is worth: the promise on digits, and how features are judged."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import backbone, backbone_speed
from benchmarks.backbone import digits, from_backbone, judge, nearest_mean, randomised
from benchmarks.fetch import DATA
from model.backbone import load_backbone
from model.spec import BackboneSpec


def test_digits_are_told_apart_as_promised() -> None:
    found = judge(from_backbone(load_backbone(BackboneSpec())), digits(validate=False))
    assert found.nearest_mean >= 0.93
    assert found.projected_ridge >= 0.97


def test_held_out_digits_are_no_test_digits() -> None:
    tested = {picture.tobytes() for picture in digits(validate=False).test}
    chosen_on = digits(validate=True)
    seen = {picture.tobytes() for picture in chosen_on.train + chosen_on.test}
    assert not seen & tested


def test_the_nearest_mean_is_found_by_direction_not_by_length() -> None:
    train = torch.tensor([[1.0, 0.1], [100.0, 0.0], [0.0, 1.0], [0.1, 50.0]])
    labels = torch.tensor([3, 3, 5, 5])
    assert nearest_mean(train, labels, torch.tensor([[0.01, 0.001], [1.0, 9.0]]), torch.tensor([3, 5])) == 1


def test_random_weights_are_none_of_the_trained_ones() -> None:
    bundled = load_backbone(BackboneSpec())
    drawn = randomised(bundled).vit.state_dict()
    kept = [name for name, tensor in bundled.vit.state_dict().items() if torch.equal(tensor, drawn[name])]
    # The whitening block leaves these at their start; everything else differs.
    assert all(name.startswith(("blocks.8.", "norm.")) for name in kept)
    assert load_backbone(BackboneSpec()).identity == bundled.identity


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is missing")
def test_both_commands_run_and_keep_their_figures(tmp_path: Path) -> None:
    backbone_speed.main(DATA, tmp_path / "speed.json", batch=32, rounds=7, quick=True)
    speed = json.loads((tmp_path / "speed.json").read_text())
    assert speed["ratio"] == speed["ms_per_image"]["deit_tiny_224"] / speed["ms_per_image"]["bundled"]
    backbone.main(
        DATA, tmp_path / "a.json", ["pixels"], per_class=50, weights=None, validate=True, quick=True
    )
    kept = json.loads((tmp_path / "a.json").read_text())
    assert kept["per_class"] == 5
    assert 0 < kept["accuracy"]["cub100"]["pixels"]["nearest_mean"] < 1
