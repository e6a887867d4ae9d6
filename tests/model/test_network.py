"""The backbone with the loop inside: off means off, fusion is what appending tokens would give."""

from __future__ import annotations

import pytest
import timm
import torch

from model.backbone import Backbone, UnsupportedBackbone, load_backbone
from model.budget import Budget, BudgetBatch
from model.deliberation import LoopConfig, deliberate, seed_query
from model.fusion import block_with_recall
from model.network import RetrievalViT
from model.pools import Pools
from model.readout import read_out
from model.spec import BackboneSpec


def test_no_slots_is_the_plain_transformer_exactly(network: RetrievalViT, pixels: torch.Tensor) -> None:
    backbone, read = network.backbone, []
    x = backbone.embed(pixels)
    for layer, block in enumerate(backbone.vit.blocks, start=1):
        x = block(x)
        read += backbone.read(layer, x)
    memories = Pools.empty(network.loop, network.backbone.dim).memories(network.loop)
    features = network(pixels, memories, BudgetBatch.repeat(Budget(), len(pixels)))
    assert torch.equal(features.vectors, read_out(read))
    whole = backbone.vit((pixels - backbone.mean) / backbone.std)
    assert torch.equal(backbone.pool(x), whole)
    assert features.steps.shape == (6, 0)


@pytest.mark.parametrize("used_steps", [1, 2, 4])
def test_fusion_equals_appending_the_vectors_as_tokens(
    network: RetrievalViT, pools: Pools, pixels: torch.Tensor, used_steps: int
) -> None:
    block, x = network.backbone.vit.blocks[0], network.backbone.embed(pixels)
    budgets = BudgetBatch.of([Budget(used_steps, 0, 5)] * 5 + [Budget(4, 0, 5)])
    found = deliberate(x, pools.memories(network.loop)[0], budgets, network.loop)
    fused = block_with_recall(block, x, found)
    for i in range(5):
        appended = block(torch.cat([x[i : i + 1], found.vectors[i : i + 1, :used_steps]], dim=1))
        torch.testing.assert_close(fused[i : i + 1], appended[:, : x.shape[1]], rtol=1e-5, atol=1e-5)


def test_the_class_token_entering_block_1_is_blind_but_the_seed_query_sees(
    backbone: Backbone, pixels: torch.Tensor
) -> None:
    x = backbone.embed(pixels[:2])
    assert torch.equal(x[0, 0], x[1, 0])
    assert (seed_query(x)[0] - seed_query(x)[1]).norm() > 0.1


def test_an_answer_does_not_depend_on_batch_mates_or_their_order(
    network: RetrievalViT, pools: Pools, pixels: torch.Tensor
) -> None:
    budgets = [
        Budget(4, 0, 5),
        Budget(1, 0, 2),
        Budget(3, 2.0, 3),
        Budget(4, 5.0, 12),
        Budget(2, 0, 1),
        Budget(4, 0, 7),
    ]
    memories = pools.memories(network.loop)
    together = network(pixels, memories, BudgetBatch.of(budgets))
    order = [3, 0, 5, 1, 4, 2]
    shuffled = network(pixels[order], memories, BudgetBatch.of([budgets[i] for i in order]))
    torch.testing.assert_close(shuffled.vectors, together.vectors[order], rtol=1e-4, atol=1e-4)
    assert torch.equal(shuffled.steps, together.steps[order])
    for i, budget in enumerate(budgets):
        alone = network(pixels[i : i + 1], memories, BudgetBatch.of([budget]))
        torch.testing.assert_close(alone.vectors[0], together.vectors[i], rtol=1e-4, atol=1e-4)
        assert torch.equal(alone.steps[0], together.steps[i])


def test_every_sample_takes_at_most_its_own_tmax(
    network: RetrievalViT, pools: Pools, pixels: torch.Tensor
) -> None:
    budgets = [Budget(t, 0, 5) for t in (1, 2, 3, 4, 1, 4)]
    steps = network(pixels, pools.memories(network.loop), BudgetBatch.of(budgets)).steps
    assert steps.tolist() == [[b.tmax] * 7 for b in budgets]


def test_a_layer_the_backbone_does_not_have_is_refused(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"blocks 1\.\.8"):
        RetrievalViT(backbone, LoopConfig(layers=(1, 9)))


def test_pixels_of_another_size_are_refused(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="takes"):
        backbone.embed(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_only_plain_pre_norm_transformers_are_taken() -> None:
    for name in ("resnet18", "eva02_tiny_patch14_224"):
        with pytest.raises(UnsupportedBackbone):
            load_backbone(BackboneSpec(name))  # before weights are fetched
        with pytest.raises(UnsupportedBackbone):
            Backbone(name, timm.create_model(name, num_classes=0), 224, (0.5,) * 3, (0.5,) * 3)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedBackbone, match="no model named"):
        load_backbone(BackboneSpec("no_such_vit"))


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"]
)
def test_backbones_of_the_families_named_carry_pools(name: str) -> None:
    """LayerScale, register tokens and another patch size included."""
    vit = timm.create_model(name, num_classes=0, img_size=56 if "14" in name else 64)
    backbone = Backbone(name, vit, vit.patch_embed.img_size[0], (0.5,) * 3, (0.5,) * 3)
    loop = LoopConfig()
    keys = torch.nn.functional.normalize(torch.randn(7, 5, backbone.dim), dim=-1)
    pools = Pools(keys, keys, torch.eye(backbone.dim).repeat(7, 1, 1), ("a",) * 5)
    pixels = torch.randint(0, 256, (2, 3, backbone.px, backbone.px), dtype=torch.uint8)
    features = RetrievalViT(backbone, loop)(pixels, pools.memories(loop), BudgetBatch.repeat(Budget(), 2))
    assert features.vectors.shape == (2, backbone.width)
    assert torch.isfinite(features.vectors).all()
