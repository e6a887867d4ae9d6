"""A last block solved in closed form: it whitens the image's vector by how it varies within one image.

Distances to class means treat every direction alike; training does not make directions alike. From pairs of scans
of one drawing comes the covariance within images, S_w, from all vectors S; the map is (S_w + c S)^(-1/2), both
scaled to trace one. No label is used. The map fits a plain transformer block exactly: attention that adds nothing,
and an MLP that computes gelu(z) - gelu(-z) = z.
"""

from copy import deepcopy

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

GAIN = 100.0
"""Size of the new vector beside the residual stream it is added to, so that the last norm sees only the former."""


@torch.no_grad()
def whitening(first: Tensor, second: Tensor, pictures: Tensor, total: float) -> tuple[Tensor, Tensor]:
    """Mean [d] of all vectors, and the symmetric map [d, d].

    Args:
        first, second: vectors [N, d] of two views of each of N drawings.
        pictures: vectors [M, d] of other images.
        total: c.
    """
    change = (first - second).double()
    within, spread = change.T @ change, covariance(first) + covariance(pictures)
    values, axes = torch.linalg.eigh(within / within.trace() + total * spread / spread.trace())
    inverse_root = ((axes * values.clamp_min(1e-9).rsqrt()) @ axes.T).float()
    everything = torch.cat((first, pictures))
    mean = everything.mean(0)
    return mean, inverse_root / ((everything - mean) @ inverse_root).std()


def covariance(vectors: Tensor) -> Tensor:
    """[d, d] in float64, of vectors [N, d]."""
    centred = (vectors - vectors.mean(0)).double()
    return centred.T @ centred / len(vectors)


@torch.no_grad()
def append_map(vit: VisionTransformer, mean: Tensor, mapping: Tensor) -> None:
    """Add a block after which the normalised vector y is LN((y - mean) mapping), up to 1 / GAIN.

    Args:
        vit: its MLPs must be at least twice as wide as its vectors.
        mean: [d].
        mapping: [d, d].
    """
    width = vit.embed_dim
    block = deepcopy(vit.blocks[-1])
    block.norm2 = deepcopy(vit.norm)
    for linear in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    block.mlp.fc1.weight[: 2 * width] = torch.cat((mapping.T, -mapping.T))
    block.mlp.fc1.bias[: 2 * width] = torch.cat((-(mean @ mapping), mean @ mapping))
    eye = GAIN * torch.eye(width)
    block.mlp.fc2.weight[:, : 2 * width] = torch.cat((eye, -eye), 1)
    vit.blocks.append(block)
    vit.norm.weight.fill_(1)
    vit.norm.bias.zero_()
