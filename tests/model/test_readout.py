"""What the head reads: which blocks, which tokens, all alike in length."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer

from model.backbone import Backbone
from model.readout import blocks_read, read_block, read_out


@pytest.mark.parametrize(
    ("depth", "read"),
    [(12, (6, 8, 10, 12)), (24, (12, 16, 20, 24)), (9, (4, 6, 8, 9)), (2, (1, 2)), (1, (1,))],
)
def test_four_depths_are_read_where_there_are_so_many_and_the_last_is_one_of_them(
    depth: int, read: tuple[int, ...]
) -> None:
    assert blocks_read(depth) == read


def test_every_part_is_a_normalised_class_token_or_mean_patch_token() -> None:
    layers = [scale * torch.randn(3, 9, 8) for scale in (10.0, 100.0)]
    read = read_out([part for x in layers for part in read_block(x, prefix=2, classed=True)])
    torch.testing.assert_close(read.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(
        read.unflatten(1, (4, 8)).norm(dim=2), torch.full((3, 4), 0.5), rtol=0, atol=1e-3
    )
    patches = F.normalize(F.layer_norm(layers[0][:, 2:].mean(dim=1), (8,)), dim=1) / 2
    class_token = F.normalize(F.layer_norm(layers[1][:, 0], (8,)), dim=1) / 2
    torch.testing.assert_close(read[:, :8], patches, rtol=0, atol=1e-3)
    torch.testing.assert_close(read[:, 24:], class_token, rtol=0, atol=1e-3)


def test_a_merged_token_counts_for_the_patches_it_stands_for() -> None:
    apart = torch.randn(2, 6, 8)
    apart[:, 3] = apart[:, 4] = apart[:, 5]
    sizes = torch.tensor([1.0, 1.0, 1.0, 3.0]).view(1, 4, 1).expand(2, -1, -1)
    for merged, plain in zip(
        read_block(apart[:, :4], 1, True, sizes), read_block(apart, 1, True), strict=True
    ):
        torch.testing.assert_close(merged, plain)


def test_without_a_class_token_the_patches_alone_are_read() -> None:
    assert len(read_block(torch.randn(2, 4, 8), prefix=0, classed=False)) == 1
    with_registers = torch.randn(2, 8, 8)
    (read,) = read_block(with_registers, prefix=4, classed=False)
    torch.testing.assert_close(read, with_registers[:, 4:].mean(dim=1))


def test_registers_are_no_class_token() -> None:
    vit = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=0, class_token=False,
        reg_tokens=4, global_pool="avg",
    )  # fmt: skip
    backbone = Backbone("test", vit, 32, (0.5,) * 3, (0.5,) * 3)
    x = backbone.embed(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert sum(part.shape[1] for layer in (1, 2) for part in backbone.read(layer, x)) == backbone.width == 48


def test_a_backbone_states_how_much_is_read_of_it(backbone: Backbone) -> None:
    x = torch.randn(2, 17, backbone.dim)
    parts = [part for layer in range(1, backbone.depth + 1) for part in backbone.read(layer, x)]
    assert read_out(parts).shape == (2, backbone.width)
