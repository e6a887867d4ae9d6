"""Training the bundled backbone, on pictures of noise: what it draws, how it resumes, what it exports."""

from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from benchmarks.pretrain.augment import crop_frames, recolour, sample
from benchmarks.pretrain.drawings import LEVELS, drawing_pairs
from benchmarks.pretrain.export import averaged, export, smoothed
from benchmarks.pretrain.geometry import LENGTH, describe, gradient_histograms
from benchmarks.pretrain.glyphs import FONTS, GLYPHS, draw_glyph, glyph_scans
from benchmarks.pretrain.student import ARCHITECTURE, Distillation, tell_apart
from benchmarks.pretrain.teacher import Views
from benchmarks.pretrain.train import Recipe, Trainer, drop_at, held_out, rate_at
from benchmarks.pretrain.whiten import append_map, remove_map, unwhitened, whiten, whitening, within
from model.bundled import load_bundled

TARGET = 12
RECIPE = Recipe(minutes=0.002, shares=(2, 1), drawings=2, figures=2)


@pytest.fixture
def sources() -> tuple[Views, ...]:
    """Two sources of 30 random pictures with a teacher of 12 dimensions."""
    torch.manual_seed(0)
    return tuple(
        Views(
            name,
            torch.randint(0, 256, (30, 3, 64, 64), dtype=torch.uint8),
            torch.randn(30, TARGET).half(),
            torch.randn(30, TARGET, 8, 8).half(),
        )
        for name in ("photos", "birds")
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


def test_recoloured_pictures_stay_pictures() -> None:
    pictures = recolour(torch.rand(16, 3, 64, 64))
    assert pictures.shape == (16, 3, 64, 64)
    assert pictures.min() >= 0
    assert pictures.max() <= 1


def test_drawings_come_in_grey_pairs_that_differ() -> None:
    torch.manual_seed(0)
    first, second = drawing_pairs(torch.rand(6, 3, 64, 64), 64)
    assert first.shape == second.shape == (6, 3, 64, 64)
    assert torch.equal(first[:, 0], first[:, 2])
    assert not torch.allclose(first, second, atol=1 / LEVELS)
    assert 0 <= first.min() <= first.max() <= 1


def test_twins_cost_less_than_strangers() -> None:
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    assert tell_apart(torch.cat((unit, unit))) < tell_apart(torch.cat((unit, unit.flip(0))))
    assert tell_apart(torch.zeros(0, 16)) == 0


def test_a_picture_s_description_knows_where_an_edge_points() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    assert describe(ramp).shape == (1, LENGTH)
    by_angle = gradient_histograms(ramp[:, :1]).view(-1, 16).sum(1)
    assert by_angle.argmax() == 0  # brighter to the right
    downwards = gradient_histograms(ramp[:, :1].transpose(2, 3)).view(-1, 16).sum(1)
    assert downwards.argmax() == 2


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
    student = averaged(run.checkpoint)
    append_map(student, torch.zeros(160), torch.eye(160))
    sha256 = export(student, tmp_path / "small.safetensors")
    vit, card = load_bundled(tmp_path / "small.safetensors")
    assert card.sha256 == sha256
    assert card.px == 64
    assert len(vit.blocks) == len(run.average.vit.blocks) + 1
    first = run.average.vit.state_dict()["blocks.0.attn.qkv.weight"]
    assert torch.equal(vit.blocks[0].attn.qkv.weight, first.half().float())


@torch.no_grad()
def test_an_exported_backbone_can_be_trained_on(tmp_path: Path) -> None:
    """Rounded as it was exported, the student is what it was before its last block was solved."""
    vit, images = VisionTransformer(**ARCHITECTURE).eval(), torch.rand(2, 3, 64, 64)
    vit.load_state_dict({name: tensor.half().float() for name, tensor in vit.state_dict().items()})
    before = vit(images)
    append_map(vit, torch.zeros(160), torch.eye(160))
    export(vit, tmp_path / "small.safetensors")
    student = VisionTransformer(**ARCHITECTURE).eval()
    student.load_state_dict(unwhitened(tmp_path / "small.safetensors").state_dict())
    assert torch.equal(student(images), before)


@torch.no_grad()
def test_a_linear_map_fits_a_transformer_block() -> None:
    vit = VisionTransformer(**ARCHITECTURE).eval()
    images, mapping, mean = torch.rand(3, 3, 64, 64), torch.randn(160, 160), torch.randn(160)
    wanted = torch.nn.functional.layer_norm((vit(images) - mean) @ mapping, (160,))
    append_map(vit, mean, mapping)
    assert torch.allclose(vit(images), wanted, atol=0.02)


@torch.no_grad()
def test_the_map_comes_off_again() -> None:
    vit, images = VisionTransformer(**ARCHITECTURE).eval(), torch.rand(2, 3, 64, 64)
    vit.norm.weight.uniform_(0.5, 2)
    before = vit(images)
    append_map(vit, torch.randn(160), torch.randn(160, 160))
    assert not torch.allclose(vit(images), before, atol=0.1)
    remove_map(vit)
    assert torch.equal(vit(images), before)


def test_whitening_evens_out_what_changes_within_a_glyph() -> None:
    torch.manual_seed(0)
    stretch = torch.tensor([10.0, 1.0, 0.1])
    groups = torch.arange(8000) % 20
    glyphs = torch.randn(20, 3)[groups] + stretch * torch.randn(8000, 3)
    mean, mapping = whitening([(1.0, within(glyphs, groups))], glyphs)
    changes = stretch * torch.randn(8000, 3) @ mapping
    assert changes.std(0).max() / changes.std(0).min() < 1.05
    assert torch.equal(mean, glyphs.mean(0))


@torch.no_grad()
def test_scans_of_a_glyph_lie_closer_after_whitening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.pretrain.glyphs.FONTS", FONTS[:2])
    monkeypatch.setattr("benchmarks.pretrain.whiten.SHOWN", (8, 4))
    torch.manual_seed(0)
    vit, pictures = VisionTransformer(**ARCHITECTURE).eval(), torch.rand(200, 3, 64, 64)
    scans, groups = glyph_scans(64, repeats=1)
    before = within_share(vit(scans - 0.5), groups)
    whiten(vit, pictures)
    assert within_share(vit(scans - 0.5), groups) < before


def within_share(vectors: torch.Tensor, groups: torch.Tensor) -> float:
    """Variance within groups over all variance."""
    means = torch.stack([vectors[groups == group].mean(0) for group in groups.unique()])
    return float((vectors - means[groups]).square().sum() / (vectors - vectors.mean(0)).square().sum())


def test_no_digit_is_among_the_glyphs() -> None:
    assert not any(glyph.isnumeric() for glyph in GLYPHS)


@pytest.mark.parametrize("font", FONTS)
def test_every_font_has_every_glyph_and_none_is_cut(font: str) -> None:
    missing = draw_glyph("\uffff", font)
    for glyph in GLYPHS:
        drawn = draw_glyph(glyph, font)
        assert not torch.equal(drawn, missing), glyph
        assert drawn[:, :5].sum() == drawn[:, -5:].sum() == drawn[..., :5].sum() == drawn[..., -5:].sum() == 0
        assert drawn.max() > 0.5, glyph


def test_glyphs_are_scanned_in_every_font_and_come_with_their_index() -> None:
    torch.manual_seed(0)
    scans, groups = glyph_scans(64, repeats=1)
    assert scans.shape == (len(GLYPHS) * len(FONTS), 3, 64, 64)
    assert torch.equal(groups.bincount(), torch.full((len(GLYPHS),), len(FONTS)))
    assert 0 <= scans.min() <= scans.max() <= 1
    wide, narrow = (scans[groups == GLYPHS.index(glyph), 0].mean((0, 1)) for glyph in "W!")
    outside = torch.cat((torch.arange(16), torch.arange(48, 64)))
    assert wide[outside].sum() > 2 * narrow[outside].sum()


def test_smoothing_starts_at_the_first_value() -> None:
    assert smoothed([2.0, 0.0], keep=0.5) == [2.0, 1.0]
