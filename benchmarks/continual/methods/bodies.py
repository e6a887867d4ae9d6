"""What is trained between pixels and features: the whole backbone, or low-rank additions to it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.continual.methods.base import Setting
from model.backbone import Backbone
from model.readout import read_out
from trainer.learning.epochs import FEATURE_LENGTH


class Described(NamedTuple):
    """features: [B, d].  penalty: [], added to the loss while training."""

    features: Tensor
    penalty: Tensor


class Body(Protocol):
    """A module from pixels to features. Only what requires a gradient is trained and saved.

    width: length of a feature vector.
    """

    width: int

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """A module's own."""

    def begin(self, task: int) -> None:
        """Get ready to learn task 0, 1, ..."""

    def ask(self, pixels: Tensor) -> Tensor:
        """What `describe` needs that no training changes: [B, q], q = 0 for nothing."""

    def describe(self, pixels: Tensor, query: Tensor, learning: bool) -> Described:
        """uint8 pixels [B, 3, px, px] on the body's device, and what `ask` says of them [B, q]."""


@dataclass(frozen=True, slots=True)
class FullConfig:
    """Every parameter of the backbone is trained.

    depths: describe images by what our own head reads (`model.readout`) instead of by the last class token.
    """

    depths: bool = False

    def build(self, setting: Setting) -> Full:
        return Full(self, setting)


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """W + (scale / rank) up down on the queries and values of every block (Hu et al., ICLR 2022).

    rank: of each update.  scale: the paper's alpha.  depths: see `FullConfig`.
    """

    rank: int = 8
    scale: float = 8.0
    depths: bool = False

    def build(self, setting: Setting) -> Lora:
        return Lora(self, setting)


class Full(nn.Module):
    """A copy of the backbone, free to move."""

    def __init__(self, config: FullConfig | LoraConfig, setting: Setting) -> None:
        super().__init__()
        self.backbone: Backbone = copy.deepcopy(setting.backbone)
        self.depths = config.depths
        self.width = self.backbone.width if config.depths else self.backbone.dim
        self.backbone.vit.requires_grad_(True)

    def begin(self, task: int) -> None:
        """Nothing grows."""

    def ask(self, pixels: Tensor) -> Tensor:
        return pixels.new_zeros(len(pixels), 0, dtype=torch.float32)

    def describe(self, pixels: Tensor, query: Tensor, learning: bool) -> Described:  # noqa: ARG002
        x, read = self.backbone.embed(pixels), []
        for layer, block in enumerate(self.backbone.vit.blocks, start=1):
            x = block(x)
            read += self.backbone.read(layer, x) if self.depths else []
        features = FEATURE_LENGTH * read_out(read) if self.depths else self.backbone.pool(x)
        return Described(features, pixels.new_zeros((), dtype=torch.float32))


class Lora(Full):
    """A frozen copy with low-rank updates, shared by all tasks."""

    def __init__(self, config: LoraConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.backbone.vit.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            for block in self.backbone.vit.blocks:
                block.attn.qkv = LowRank(block.attn.qkv, config).to(setting.device)


class LowRank(nn.Module):
    """A joint projection to queries, keys and values whose queries and values have a low-rank update."""

    def __init__(self, linear: nn.Linear, config: LoraConfig) -> None:
        super().__init__()
        self.linear, self.factor = linear, config.scale / config.rank
        dim = linear.in_features
        self.down = nn.Parameter(torch.randn(2, config.rank, dim) / dim**0.5)
        self.up = nn.Parameter(torch.zeros(2, linear.out_features // 3, config.rank))

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, d] -> [B, N, 3 d]."""
        query, value = (
            self.factor * F.linear(F.linear(x, down), up) for down, up in zip(self.down, self.up, strict=True)
        )
        return self.linear(x) + torch.cat([query, torch.zeros_like(query), value], dim=-1)
