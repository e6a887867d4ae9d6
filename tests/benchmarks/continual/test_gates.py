"""The published gates, each against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from benchmarks.continual.methods.base import Setting
from benchmarks.continual.methods.gates import attentive, given, nearest, orthogonality
from benchmarks.continual.methods.prompts import (
    CODA_PROMPT,
    DUAL_PROMPT,
    L2P,
    PromptConfig,
    Prompts,
    mixed,
    separately,
)
from model.backbone import Backbone, load_backbone
from model.spec import BackboneSpec
from tests.benchmarks.continual.conftest import BACKBONE

KEYS = torch.tensor([[2.0, 0.0], [0.0, 0.5], [-1.0, 0.0]])
VALUES = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])


def test_l2p_takes_the_most_similar_keys_and_pulls_them() -> None:
    choice = nearest(torch.tensor([[3.0, 4.0], [-1.0, 0.1]]), KEYS, 2)
    assert choice.slots.tolist() == [[1, 0], [2, 1]]  # cosines 0.6, 0.8, -0.6 and -1, 0.1, 1 nearly
    assert choice.weights.tolist() == [[1, 1], [1, 1]]
    assert choice.distance[0].item() == pytest.approx((1 - 0.8) + (1 - 0.6))
    assert separately(choice, VALUES).tolist() == [[2, 20, 1, 10], [3, 30, 2, 20]]


def test_dualprompt_trains_the_tasks_own_key() -> None:
    choice = given(torch.tensor([[3.0, 4.0]]), KEYS, 2)
    assert choice.slots.tolist() == [[2]]
    assert choice.distance[0].item() == pytest.approx(1 + 0.6)
    assert mixed(choice, VALUES).tolist() == [[3, 30]]


def test_coda_weighs_every_component_by_attended_similarity() -> None:
    attention = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    choice = attentive(torch.tensor([[3.0, 4.0]]), KEYS, attention)
    # q * A = (3, 0), (3, 4), (0, 4); cosines with K = 1, 4/5, 0.
    assert choice.weights[0].tolist() == pytest.approx([1, 0.8, 0])
    assert mixed(choice, VALUES)[0].tolist() == pytest.approx([1 + 1.6, 10 + 16])


def test_orthogonality_is_the_squared_distance_of_the_gram_matrix_from_the_identity() -> None:
    assert orthogonality(torch.eye(3)[:2]).item() == 0
    rows = torch.tensor([[1.0, 1.0], [0.0, 2.0]])  # gram [[2, 2], [2, 4]]
    assert orthogonality(rows).item() == pytest.approx(1 + 4 + 4 + 9)


@pytest.fixture(scope="module")
def backbone(weights: object) -> Backbone:
    return load_backbone(BackboneSpec(BACKBONE, weights, 32))


@pytest.mark.parametrize("config", [L2P, DUAL_PROMPT, CODA_PROMPT], ids=["l2p", "dualprompt", "coda"])
def test_an_answer_does_not_depend_on_batch_mates(backbone: Backbone, config: PromptConfig) -> None:
    prompts = Prompts(config, Setting(backbone, 0, 10))
    prompts.begin(3)
    pixels = torch.randint(0, 255, (5, 3, 32, 32), dtype=torch.uint8)
    together = prompts.describe(pixels, prompts.ask(pixels), learning=False).features
    alone = torch.cat(
        [prompts.describe(one, prompts.ask(one), learning=False).features for one in pixels.split(1)]
    )
    assert torch.allclose(together, alone, atol=1e-5)


def test_prompts_of_zero_weight_in_no_layer_are_the_plain_transformer(backbone: Backbone) -> None:
    prompts = Prompts(PromptConfig(place="prefix", layers=(), count=1), Setting(backbone, 0, 2))
    pixels = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(prompts.with_prefixes(backbone.embed(pixels), []), prompts.ask(pixels))


def test_tokens_are_described_by_the_mean_of_the_prompts(backbone: Backbone) -> None:
    prompts = Prompts(L2P, Setting(backbone, 0, 10))
    pixels = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    x, given_prompts = backbone.embed(pixels), torch.randn(2, 3 * backbone.dim)
    tokens = torch.cat([given_prompts.view(2, 3, -1), x], dim=1)
    expected = backbone.vit.norm(backbone.vit.blocks(tokens))[:, :3].mean(dim=1)
    assert torch.equal(prompts.with_tokens(x, given_prompts), expected)


@pytest.mark.parametrize("config", [DUAL_PROMPT, CODA_PROMPT], ids=["dualprompt", "coda"])
def test_only_the_newest_tasks_slots_train(backbone: Backbone, config: PromptConfig) -> None:
    prompts = Prompts(config, Setting(backbone, 0, 5))
    prompts.begin(2)
    pixels = torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8)
    described = prompts.describe(pixels, prompts.ask(pixels), learning=True)
    (described.features.square().mean() + described.penalty).backward()
    share = prompts.share
    for slots in (prompts.keys, prompts.values):
        moved = slots.grad.abs().sum(dim=(0, 2)) > 0
        assert moved.nonzero().flatten().tolist() == list(range(2 * share, 3 * share))
