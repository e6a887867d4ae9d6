"""What sets one method apart from another."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.continual.methods import RECIPES
from benchmarks.continual.methods.aligned import gaussian, scaled
from benchmarks.continual.methods.base import Images, Setting, percent_right
from benchmarks.continual.methods.bodies import Lora, LoraConfig
from benchmarks.continual.methods.joint import affine, logistic_regression
from benchmarks.continual.methods.ranpac import HELD_OUT, RIDGES, Ranpac, RanpacConfig, best_ridge, ridge
from benchmarks.continual.methods.replayed import Replayed, ReplayedConfig, widened
from benchmarks.continual.methods.trained import Trained, TrainedConfig
from benchmarks.continual.protocols import FEW
from benchmarks.continual.runner import configure
from model.backbone import load_backbone
from model.budget import Budget, BudgetBatch
from model.deliberation import LoopConfig
from model.moments import ClassMoments
from model.network import RetrievalViT
from model.spec import BackboneSpec
from tests.benchmarks.continual.conftest import BACKBONE
from trainer.learning.task import Task


@pytest.fixture(scope="module")
def setting(weights: Path) -> Setting:
    return Setting(load_backbone(BackboneSpec(BACKBONE, weights, 32)), 0, 2)


class Unwatched:
    def __init__(self) -> None:
        self.images = 0.0

    def trained(self, images: float) -> None:
        assert images > 0
        self.images += images

    def served(self) -> None: ...


def noise(name: str, labels: tuple[str, ...]) -> Task:
    pixels = torch.randint(0, 255, (len(labels), 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return Task(name, pixels.to(torch.uint8), labels)


def test_a_masked_loss_never_moves_the_rows_of_old_classes(setting: Setting) -> None:
    for masked in (True, False):
        method = Trained(
            TrainedConfig(LoraConfig(), masked=masked, epochs=1, least_steps=0, batch=4), setting
        )
        method.learn(noise("a", ("ant", "bee") * 4), Unwatched())
        before = method.head.weight[:2].clone()
        method.learn(noise("b", ("cow", "dog") * 4), Unwatched())
        assert method.labels == ("ant", "bee", "cow", "dog")
        assert torch.equal(method.head.weight[:2], before) == masked


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.schedule is not None])
def test_a_small_task_is_passed_over_as_often_by_every_method(name: str) -> None:
    config = configure(RECIPES[name], FEW, 0, ())
    for part in filter(None, RECIPES[name].schedule.split(".")):
        config = getattr(config, part)
    least_steps = FEW.least_steps if RECIPES[name].fills_up else 0
    assert (config.epochs, config.least_steps, config.batch) == (FEW.epochs, least_steps, FEW.batch)


def test_a_small_task_is_passed_over_until_it_made_so_many_updates(setting: Setting) -> None:
    for least_steps, passes in ((0, 2), (7, 4)):
        watch = Unwatched()
        config = TrainedConfig(LoraConfig(), epochs=2, least_steps=least_steps, batch=4)
        Trained(config, setting).learn(noise("a", ("ant", "bee") * 4), watch)
        assert watch.images == 8 * passes
        assert replace(FEW, epochs=2, least_steps=least_steps, batch=4).shown(8) == 8 * passes


@pytest.mark.parametrize("vary", [True, False])
def test_peers_see_images_as_our_learner_does(setting: Setting, vary: bool) -> None:
    task, seen = noise("a", ("ant", "bee") * 2), []
    config = TrainedConfig(LoraConfig(), vary=vary, mirror=0, epochs=2, least_steps=0, batch=4)

    class Watched(Trained):
        def loss(self, pixels: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            seen.append(pixels.sum(dim=(1, 2, 3)).sort().values)
            return super().loss(pixels, *rest)

    Watched(config, setting).learn(task, Unwatched())
    as_they_are = task.pixels.sum(dim=(1, 2, 3)).sort().values
    assert [torch.equal(each, as_they_are) for each in seen] == [not vary] * 2


def test_low_rank_updates_start_as_the_plain_transformer(setting: Setting) -> None:
    pixels = noise("a", ("ant",) * 2).pixels
    body, plain = Lora(LoraConfig(), setting), setting.backbone
    described = body.describe(pixels, body.ask(pixels), learning=False).features
    assert torch.allclose(described, plain.pool(plain.vit.blocks(plain.embed(pixels))), atol=1e-6)
    assert all(".down" in name or ".up" in name for name, p in body.named_parameters() if p.requires_grad)


def test_a_body_may_read_what_our_head_reads(setting: Setting) -> None:
    pixels, plain = noise("a", ("ant",) * 2).pixels, RetrievalViT(setting.backbone, LoopConfig(layers=(1,)))
    body = Lora(LoraConfig(depths=True), setting)
    described = body.describe(pixels, body.ask(pixels), learning=False).features
    ours = plain(pixels, [], BudgetBatch.repeat(Budget(), 2)).vectors
    assert described.shape[1] == body.width == setting.backbone.width
    assert torch.allclose(torch.nn.functional.normalize(described, dim=1), ours, atol=1e-5)


def test_training_a_copy_leaves_the_backbone_as_it_was(setting: Setting) -> None:
    before = setting.backbone.vit.blocks[0].attn.qkv.weight.clone()
    Trained(TrainedConfig(epochs=1, least_steps=0, batch=4), setting).learn(
        noise("a", ("ant", "bee")), Unwatched()
    )
    assert torch.equal(setting.backbone.vit.blocks[0].attn.qkv.weight, before)
    assert not any(parameter.requires_grad for parameter in setting.backbone.parameters())


def test_the_buffer_holds_no_more_than_it_may_and_some_of_every_task(setting: Setting) -> None:
    config = ReplayedConfig(
        TrainedConfig(LoraConfig(), masked=False, epochs=2, least_steps=0, batch=4), buffer=6
    )
    method = Replayed(config, setting)
    method.learn(noise("a", ("ant", "bee") * 4), Unwatched())
    method.learn(noise("b", ("cow", "dog") * 4), Unwatched())
    assert len(method.pixels) == 6
    assert method.seen == 32
    assert set(method.targets.tolist()) & {0, 1}
    assert set(method.targets.tolist()) & {2, 3}
    assert method.report(())["images_kept"] == 6


def test_unknown_logits_are_marked() -> None:
    assert [math.isnan(value) for value in widened(torch.ones(1, 2), 3)[0].tolist()] == [False, False, True]


def test_slca_divides_by_the_mean_length_of_each_tasks_logits() -> None:
    logits = torch.tensor([[3.0, 4.0, 6.0, 8.0]])
    assert torch.allclose(scaled(logits, [2, 2]), logits / 7.5)


def test_a_gaussian_draws_what_it_was_fitted_to() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    mean, factor = gaussian(torch.randn(5000, 2, generator=generator) @ mixing.mT + 3, 0.0)
    assert torch.allclose(mean, torch.full((2,), 3.0), atol=0.15)
    assert torch.allclose(factor @ factor.mT, mixing @ mixing.mT, atol=0.3)


def test_ridge_weights_solve_the_regularised_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    labels = tuple("ab"[i % 2] for i in range(30))
    moments = ClassMoments.empty(5).observe(features, labels)
    weight = ridge(moments.gram, moments.sums, 0.7)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 15, dtype=torch.float64)
    expected = torch.linalg.solve(features.mT @ features + 0.7 * torch.eye(5), features.mT @ targets)
    assert torch.allclose(weight, expected, atol=1e-8)


def test_the_ridge_is_chosen_by_held_out_error() -> None:
    clean, noisy = (best_ridge(*two_classes(spread), 1.0) for spread in (1e-3, 10.0))
    assert clean < noisy


def two_classes(spread: float) -> tuple[ClassMoments, ClassMoments]:
    """Moments of 40 vectors of two classes, learned one class after the other, and of each fifth of them."""
    moments = judges = ClassMoments.empty(61)
    for number, label in enumerate("ab"):
        noise = spread * torch.randn(20, 60, generator=torch.Generator().manual_seed(number))
        vectors = torch.cat([torch.full((20, 1), 1.0 - 2 * number), noise], dim=1)
        moments = moments.observe(vectors, (label,) * 20)
        judges = judges.observe(vectors[::HELD_OUT], (label,) * len(vectors[::HELD_OUT]))
    return moments, judges


def test_the_ridge_is_chosen_by_the_judges_of_all_tasks_wherever_the_search_begins() -> None:
    moments, judges = two_classes(10.0)
    errors = {}
    for strength in RIDGES:
        weight = ridge(moments.gram - judges.gram, moments.sums - judges.sums, strength)
        errors[strength] = ((judges.gram @ weight) * weight).sum() - 2 * (judges.sums * weight.mT).sum()
    best = min(errors, key=errors.__getitem__)
    assert best > 1
    for start in (1e-8, 1.0, 1e8):
        assert best_ridge(moments, judges, start) == best


def test_a_first_task_of_too_few_images_leaves_the_backbone_to_a_later_one(setting: Setting) -> None:
    first = TrainedConfig(LoraConfig(), epochs=1, least_steps=0, batch=4)
    method = Ranpac(RanpacConfig(first, least_images=8, width=20), setting)
    method.learn(noise("trial", ("ant", "bee")), Unwatched())
    assert method.session.tasks == 0
    method.learn(noise("a", ("ant", "bee") * 4), Unwatched())
    assert method.session.tasks == 1
    assert method.labels == ("ant", "bee")


def test_logistic_regression_separates_what_can_be_separated() -> None:
    features = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.2], [-1.0, -0.2]])
    weight = logistic_regression(features, torch.tensor([0, 0, 1, 1]), 1e-4)
    assert affine(features, weight).argmax(dim=1).tolist() == [0, 0, 1, 1]


def test_percent_right_counts_names() -> None:
    images = Images("few", torch.zeros(3, 3, 1, 1, dtype=torch.uint8), ("ant", "bee", "unknown"))
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
    assert percent_right(scores, ("ant", "bee"), images.names) == pytest.approx(100 / 3)
