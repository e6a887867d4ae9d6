"""The training of the bundled backbone, on pictures of noise: what it draws, how it resumes, what it exports."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.pretrain.augment import crop_frames, expose, recolour, sample
from benchmarks.pretrain.data import sketches
from benchmarks.pretrain.export import export, smoothed
from benchmarks.pretrain.student import Distillation
from benchmarks.pretrain.teacher import Views
from benchmarks.pretrain.train import Recipe, Trainer, drop_at, held_out, rate_at
from model.bundled import load_bundled

TARGET = 12
RECIPE = Recipe(minutes=0.002, shares=(2, 1, 1))


@pytest.fixture
def sources() -> tuple[Views, ...]:
    """Three sources of 30 random pictures with a teacher of 12 dimensions."""
    torch.manual_seed(0)
    return tuple(
        Views(
            name,
            torch.randint(0, 256, (30, 3, 64, 64), dtype=torch.uint8),
            torch.randn(30, TARGET).half(),
            torch.randn(30, TARGET, 8, 8).half(),
        )
        for name in ("photos", "birds", "drawings")
    )


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.pretrain.train.CORES", 1)


def start(sources: tuple[Views, ...], folder: Path) -> Trainer:
    torch.manual_seed(0)
    return Trainer(Distillation(sources, nn.Linear(TARGET, 5)), sources, RECIPE, folder)


def test_crops_stay_inside_the_picture() -> None:
    frames = crop_frames(500, 0.3, flip=True)
    reach = frames[:, :, :2].abs().sum(2) + frames[:, :, 2].abs()
    assert reach.max() <= 1 + 1e-5


def test_a_picture_and_the_map_of_it_are_cropped_alike() -> None:
    """A ramp read through one frame gives the same values on a fine raster, averaged, as on a coarse one."""
    ramp = torch.linspace(0, 1, 64).expand(4, 1, 64, 64)
    frames = crop_frames(4, 0.5, flip=True)
    fine = torch.nn.functional.avg_pool2d(sample(ramp, frames, 64), 8)
    assert torch.allclose(fine, sample(ramp, frames, 8), atol=0.01)


@pytest.mark.parametrize("augment", [recolour, expose])
def test_augmented_pictures_stay_pictures(augment: Callable[[Tensor], Tensor]) -> None:
    pictures = augment(torch.rand(16, 3, 64, 64))
    assert pictures.shape == (16, 3, 64, 64)
    assert pictures.min() >= 0
    assert pictures.max() <= 1


def test_drawings_are_grey_few_levelled_and_repeatable() -> None:
    photos = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    drawn = sketches(photos, 64, seed=1, chunk=2)
    assert drawn.shape == (6, 3, 64, 64)
    assert torch.equal(drawn[:, 0], drawn[:, 2])
    assert torch.equal(drawn, sketches(photos, 64, seed=1, chunk=2))


def test_held_out_pictures_are_never_trained_on(sources: tuple[Views, ...]) -> None:
    kept, out = held_out(sources[0], keep=False), held_out(sources[0], keep=True)
    assert len(kept) + len(out) == len(sources[0])
    assert len(out) == 2


def test_the_schedules_end_with_whole_pictures_and_no_rate() -> None:
    recipe = Recipe()
    assert drop_at(0, recipe) > drop_at(0.8, recipe) > drop_at(1, recipe) == 0
    assert rate_at(0.03, recipe) > rate_at(0.5, recipe) > rate_at(1, recipe) == 0
    assert rate_at(0, recipe) < rate_at(0.03, recipe)


def test_a_run_stops_saves_and_goes_on_from_there(sources: tuple[Views, ...], tmp_path: Path) -> None:
    run = start(sources, tmp_path)
    run.run()
    again = start(sources, tmp_path)
    assert again.clock.step == run.clock.step >= 1
    assert again.clock.seconds == run.clock.seconds >= 60 * RECIPE.minutes
    for name, tensor in run.average.state_dict().items():
        assert torch.equal(again.average.state_dict()[name], tensor)
    moments = [state["exp_avg"] for state in run.optimiser.state.values()]
    assert all(
        torch.equal(state["exp_avg"], moment)
        for state, moment in zip(again.optimiser.state.values(), moments, strict=True)
    )


def test_what_is_exported_loads_as_the_bundled_backbone(sources: tuple[Views, ...], tmp_path: Path) -> None:
    run = start(sources, tmp_path)
    run.save()
    sha256 = export(run.checkpoint, tmp_path / "small.safetensors")
    vit, px, _, _, found = load_bundled(tmp_path / "small.safetensors")
    assert found == sha256
    assert px == 64
    wanted = run.average.vit.state_dict()
    assert all(torch.equal(tensor, wanted[name].half().float()) for name, tensor in vit.state_dict().items())


def test_smoothing_starts_at_the_first_value() -> None:
    assert smoothed([2.0, 0.0], keep=0.5) == [2.0, 1.0]
