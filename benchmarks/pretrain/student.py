"""The student, what it is asked to predict, and the loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmarks.pretrain.drawings import drawing_pairs
from benchmarks.pretrain.geometry import LENGTH, describe
from benchmarks.pretrain.teacher import STUDENT_PX, Views

ARCHITECTURE: Mapping[str, Any] = {
    "img_size": STUDENT_PX,
    "patch_size": 8,
    "embed_dim": 160,
    "depth": 8,
    "num_heads": 5,
    "mlp_ratio": 3.0,
    "num_classes": 0,
}
"""Keyword arguments of timm's `VisionTransformer`: 65 tokens, 0.14 G multiply-adds, 2 M parameters."""

INSTANCE = 64
"""Width of the read-out that tells drawings and figures apart."""
TEMPERATURE = 0.15
"""Of the softmax over drawings and figures."""


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        images: float [P + 2D, 3, px, px] in 0..1: P pictures, then two views of D drawings and
            figures, all first ones first.
        cls: the teacher's class token of the pictures, [P, t].
        tokens: its map of them, [P, t, g, g].
    """

    images: Tensor
    cls: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Losses:
    """The terms of the loss, scalars."""

    tokens: Tensor
    cls: Tensor
    logits: Tensor
    geometry: Tensor
    instance: Tensor

    def total(self) -> Tensor:
        """Weighted sum; the weights bring the terms to the same order early in training."""
        return self.tokens + 0.7 * self.cls + 0.4 * self.logits + self.geometry + 0.4 * self.instance


class Distillation(nn.Module):
    """A student `VisionTransformer` with the linear read-outs that training needs and the product does not.

    Of pictures it predicts the teacher's patch tokens and class token, standardised per dimension, and the
    teacher's 1000-class distribution, through the teacher's own frozen head. Of every image its class token also
    holds plain geometry and colour (`describe`), so that features of images the teacher has no name for are not
    worse than their pixels, and tells drawings and figures apart (InfoNCE, van den Oord et al. 2018).
    """

    def __init__(self, sources: tuple[Views, ...], head: nn.Linear) -> None:
        """`sources` give the targets' mean and spread; `head` is the teacher's classifier (t -> 1000)."""
        super().__init__()
        self.vit = VisionTransformer(**ARCHITECTURE)
        for block in self.vit.blocks:
            # On a CPU most of a step would be the fused kernel's backward pass. PyTorch's own plain attention, which
            # `training_precision` takes, computes in float32: timm's is faster still.
            block.attn.fused_attn = False
        width, target = self.vit.embed_dim, head.in_features
        self.to_tokens = nn.Linear(width, target)
        self.to_cls = nn.Linear(width, target)
        self.to_geometry = nn.Linear(width, LENGTH)
        self.to_instance = nn.Linear(width, INSTANCE)
        self.head = head.requires_grad_(False)
        photos = sources[0].images[:2000].float() / 255
        targets = {
            "cls": torch.cat([views.cls[::10] for views in sources]).float(),
            "token": torch.cat([views.tokens[::50].movedim(1, 3).flatten(0, 2) for views in sources]).float(),
            "geometry": torch.cat((describe(photos), describe(drawing_pairs(photos, STUDENT_PX)[0]))),
        }
        for name, values in targets.items():
            self.register_buffer(f"{name}_mean", values.mean(0))
            self.register_buffer(f"{name}_std", values.std(0))

    cls_mean: Tensor
    cls_std: Tensor
    token_mean: Tensor
    token_std: Tensor
    geometry_mean: Tensor
    geometry_std: Tensor

    @property
    def grid(self) -> int:
        """Student patches along a side."""
        return int(self.vit.patch_embed.grid_size[0])

    def encode(self, images: Tensor, drop: float) -> tuple[Tensor, Tensor]:
        """Normalised tokens [B, 1+n, d] of float images [B, 3, px, px] in 0..1, and which patches [B, n] were kept.

        drop: share of the patches left out, drawn for each picture.
        """
        x = self.vit.patch_embed((images - 0.5) / 0.5)  # [B, N, d]
        x = self.vit._pos_embed(x)  # [B, 1+N, d]
        patches = x.shape[1] - 1
        kept = torch.rand(len(x), patches).argsort(1)[:, : round(patches * (1 - drop))]  # [B, n]
        if drop > 0:
            chosen = kept.unsqueeze(2).expand(-1, -1, x.shape[2])
            x = torch.cat((x[:, :1], x[:, 1:].gather(1, chosen)), 1)  # [B, 1+n, d]
        else:
            kept = torch.arange(patches).expand(len(x), -1)
        return self.vit.norm(self.vit.blocks(x)), kept

    def forward(self, batch: Batch, drop: float) -> Losses:
        """The loss terms of one batch, seeing `1 - drop` of each picture's patches."""
        x, kept = self.encode(batch.images, drop)
        pictures, cls = len(batch.cls), x[:, 0]
        wanted = batch.tokens.flatten(2).transpose(1, 2)  # [P, N, t]
        wanted = wanted.gather(1, kept[:pictures].unsqueeze(2).expand(-1, -1, wanted.shape[2]))
        wanted = (wanted - self.token_mean) / self.token_std
        guess = self.to_cls(cls[:pictures])
        named = F.log_softmax(self.head(batch.cls) / 2, 1)
        guessed = F.log_softmax(self.head(guess * self.cls_std + self.cls_mean) / 2, 1)
        geometry = (describe(batch.images) - self.geometry_mean) / self.geometry_std
        return Losses(
            tokens=F.mse_loss(self.to_tokens(x[:pictures, 1:]), wanted),
            cls=F.mse_loss(guess, (batch.cls - self.cls_mean) / self.cls_std),
            logits=4 * F.kl_div(guessed, named, reduction="batchmean", log_target=True),
            geometry=F.mse_loss(self.to_geometry(cls), geometry),
            instance=tell_apart(F.normalize(self.to_instance(cls[pictures:]), dim=1)),
        )


def tell_apart(unit: Tensor) -> Tensor:
    """InfoNCE over unit vectors [2D, w], first views before second ones: each finds its twin. Zero without any."""
    count = len(unit) // 2
    if count == 0:
        return unit.sum()
    scores = (unit @ unit.T / TEMPERATURE).fill_diagonal_(float("-inf"))
    return F.cross_entropy(scores, torch.arange(2 * count).roll(count))
