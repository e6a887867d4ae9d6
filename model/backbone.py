"""The frozen vision transformer, taken from timm and never trained here.

Any plain pre-norm `VisionTransformer` of timm works: ViT (augreg), DeiT, DINOv2, tiny to large, at any input size
its position embedding can be resampled to.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.layers import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from model.bundled import BUNDLED, load_bundled
from model.merging import pairs_a_block
from model.readout import blocks_read, read_block
from model.spec import BackboneSpec


@dataclass(frozen=True, slots=True)
class BackboneIdentity:
    """What must be equal for a checkpoint to fit a backbone. sha256 covers every tensor's name, shape and bytes."""

    name: str
    px: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} at {self.px} px (weights {self.sha256[:12]})"


class UnsupportedBackbone(ValueError):
    """The named model cannot carry retrieval pools; the message says why."""


class UnfitWeights(ValueError):
    """The file of weights is not one of the backbone named; the message says what differs first."""

    def __init__(self, spec: BackboneSpec, differs: str) -> None:
        super().__init__(
            f"weights is {spec.weights}; it must be a safetensors file of {spec.name}: {differs}"
        )


class Backbone(nn.Module):
    """A frozen `VisionTransformer` that takes uint8 pixels."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, vit: VisionTransformer, px: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        """mean, std: per channel, for pixels in 0..1.  Raises UnsupportedBackbone."""
        super().__init__()
        check_supported(name, vit)
        self.vit = vit.eval().requires_grad_(False)
        self.px = px
        self.dim: int = vit.num_features
        self.depth = len(vit.blocks)
        self.patches: int = vit.patch_embed.num_patches
        self.reads = blocks_read(self.depth)
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.identity = BackboneIdentity(name, px, fingerprint(vit))

    def embed(self, pixels: Tensor) -> Tensor:
        """uint8 pixels [B, 3, px, px] -> tokens [B, N, d] as they enter block 1. Raises ValueError on another size."""
        if pixels.shape[1:] != (3, self.px, self.px):
            raise ValueError(
                f"images are {tuple(pixels.shape[1:])}; this backbone takes (3, {self.px}, {self.px})"
            )
        x = self.vit.patch_embed((pixels - self.mean) / self.std)
        return self.vit.norm_pre(self.vit.patch_drop(self.vit._pos_embed(x)))

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, N, d] after the last block -> the backbone's own feature of an image [B, d]."""
        return self.vit.forward_head(self.vit.norm(x), pre_logits=True)

    def pairs(self, keep: float) -> int:
        """Tokens to merge in each middle block, for a share of patch tokens to keep; see `model.merging`."""
        return pairs_a_block(keep, self.patches, self.depth)

    @property
    def device(self) -> torch.device:
        """The device it computes on; what it is given must be there."""
        return self.mean.device

    @property
    def width(self) -> int:
        """F, the length of what the head reads; see `model.readout`."""
        return (2 if self.vit.has_class_token else 1) * len(self.reads) * self.dim

    def read(self, layer: int, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
        """What the head reads of tokens x [B, N, d] after block `layer`, counted from 1; nothing for most blocks."""
        if layer not in self.reads:
            return []
        normed = self.vit.norm(x) if layer == self.depth else x
        return read_block(normed, self.vit.num_prefix_tokens, self.vit.has_class_token, sizes)

    def train(self, mode: bool = True) -> Backbone:  # noqa: ARG002
        """Stay in evaluation mode: a frozen backbone has no dropout to switch on."""
        return super().train(False)


def load_backbone(spec: BackboneSpec) -> Backbone:
    """Build the backbone a spec names.

    Raises UnsupportedBackbone for models that are no plain pre-norm vision transformer, UnfitWeights for weights of
    another model, BundledWeightsInvalid, and FileNotFoundError for missing weights. Without `weights`, timm downloads
    from its hub: OSError where it cannot.
    """
    if spec.weights is not None and not spec.weights.is_file():
        raise FileNotFoundError(f"backbone weights not found: {spec.weights}")
    if spec.name == "bundled":
        if spec.weights is not None and not (card_path := spec.weights.with_suffix(".json")).is_file():
            raise UnfitWeights(
                spec, f"{card_path.name} does not lie beside it; --backbone names other models"
            )
        vit, card = load_bundled(spec.weights or BUNDLED)
        if spec.px not in (None, card.px):
            vit.set_input_size(img_size=spec.px)
        return Backbone(spec.name, vit, spec.px or card.px, card.mean, card.std)
    if not timm.is_model(spec.name):
        raise UnsupportedBackbone(f"timm knows no model named {spec.name!r}")
    with torch.device("meta"):  # its shape alone, before any weights are fetched
        check_supported(spec.name, timm.create_model(spec.name, num_classes=0))
    vit = fetch(spec) if spec.weights is None else load_file(spec, spec.weights)
    config = vit.pretrained_cfg
    px = spec.px or config["input_size"][-1]
    return Backbone(spec.name, vit, px, tuple(config["mean"]), tuple(config["std"]))


def pretrained(spec: BackboneSpec) -> VisionTransformer:
    """timm's model with the weights of the spec. Raises what timm, torch and safetensors raise."""
    overlay = None if spec.weights is None else {"file": str(spec.weights)}
    sized = {} if spec.px is None else {"img_size": spec.px}
    return timm.create_model(
        spec.name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, **sized
    )


def fetch(spec: BackboneSpec) -> VisionTransformer:
    """The model with timm's own weights. Raises OSError."""
    try:
        return pretrained(spec)
    except Exception as error:  # timm's hub and its HTTP library each have their own types
        told = f"timm cannot fetch {spec.name} ({type(error).__name__}: {error})"
        raise OSError(
            f"{told}; name a safetensors file with --weights, or take the bundled backbone"
        ) from error


def load_file(spec: BackboneSpec, path: Path) -> VisionTransformer:
    """The model with the weights of a file. Raises UnfitWeights and OSError."""
    try:
        vit = pretrained(spec)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of timm, torch, safetensors and pickle
        raise UnfitWeights(spec, first_difference(error, path)) from error
    named = tensor_names(path)
    if named is not None and not vit.state_dict().keys() <= named:
        # timm translates some names, and leaves random what a file lacks: that is another at each start.
        again = pretrained(spec).state_dict()
        lacks = [name for name, tensor in vit.state_dict().items() if not torch.equal(tensor, again[name])]
        if lacks:
            raise UnfitWeights(spec, f"it lacks {lacks[0]}")
    return vit


def tensor_names(path: Path) -> set[str] | None:
    """Of the tensors in a safetensors file; None where it is none."""
    try:
        with safe_open(path, "pt") as file:
            return set(file.keys())
    except SafetensorError:
        return None


def first_difference(error: Exception, path: Path) -> str:
    """What makes a file unfit, of all that torch lists, in a line."""
    if tensor_names(path) is None:
        return "it is none, or cut short"
    if path.suffix != ".safetensors":
        return "its name does not end in .safetensors"
    title, *lines = str(error).splitlines() or [type(error).__name__]
    return (lines or [title])[0].strip().partition('", "')[0]


def check_supported(name: str, vit: nn.Module) -> None:
    """Raise UnsupportedBackbone unless the loop can run inside this model's blocks."""
    if not isinstance(vit, VisionTransformer):
        raise UnsupportedBackbone(
            f"{name} is a {type(vit).__name__}; retrieval pools need a timm VisionTransformer"
        )
    for block in vit.blocks:
        if not isinstance(block, Block) or type(block.attn) is not Attention or block.attn.gate is not None:
            raise UnsupportedBackbone(
                f"{name} has {type(block).__name__} blocks that are not plain pre-norm attention"
            )


def fingerprint(module: nn.Module) -> str:
    """sha256 over names, shapes and bytes of a module's tensors, independent of the file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
