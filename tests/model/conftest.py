from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from model.backbone import Backbone
from model.deliberation import LoopConfig
from model.network import RetrievalViT
from model.pools import Pools


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """Eight random blocks, 17 tokens of 48 channels: small, and shaped like the real ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=8, num_heads=3, num_classes=0)
    return Backbone("test", vit, 32, (0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def loop() -> LoopConfig:
    return LoopConfig(topk=5)


@pytest.fixture
def network(backbone: Backbone, loop: LoopConfig) -> RetrievalViT:
    return RetrievalViT(backbone, loop)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(
        0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )


@pytest.fixture
def pools(loop: LoopConfig, backbone: Backbone) -> Pools:
    """Twelve random slots a layer, owned by two tasks."""
    generator = torch.Generator().manual_seed(2)
    keys = torch.nn.functional.normalize(torch.randn(7, 12, backbone.dim, generator=generator), dim=-1)
    values = torch.randn(7, 12, backbone.dim, generator=generator)
    feedback = torch.eye(backbone.dim) + 0.05 * torch.randn(
        7, backbone.dim, backbone.dim, generator=generator
    )
    return Pools(keys, values, feedback, ("a",) * 6 + ("b",) * 6)
