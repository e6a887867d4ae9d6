"""A last block solved in closed form: it whitens the image's vector by how it varies within one thing.

Distances to class means treat every direction alike; training does not make directions alike. From many scans of
each of some glyphs comes the covariance within glyphs, S_g, from many views of each of some figures that within
figures, S_f, from photographs the covariance S; the map is (S_g + f S_f + c S)^(-1/2), each scaled to trace one. It
fits a plain transformer block exactly: attention that adds nothing, and an MLP that computes gelu(z) - gelu(-z) = z.

`python -m benchmarks.pretrain.whiten` solves the block of a finished backbone anew, without training.
"""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Annotated

import torch
import typer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmarks.fetch import DATA
from benchmarks.pretrain.augment import crop_frames, sample
from benchmarks.pretrain.data import read_archive
from benchmarks.pretrain.export import export
from benchmarks.pretrain.glyphs import glyph_scans
from benchmarks.pretrain.graphics import figure_views
from benchmarks.pretrain.teacher import STUDENT_PX
from model.bundled import BUNDLED, load_bundled

FIGURES = 0.3
"""f: weight of variation within figures beside that within glyphs."""
SPREAD = 1.0
"""c: weight of all variation of photographs beside that within glyphs."""
SHOWN = (150, 12)
"""Figures, and how often each is shown."""
GAIN = 100.0
"""Size of the new vector beside the residual stream it is added to, so that the last norm sees only the former."""


def whiten(vit: VisionTransformer, pictures: Tensor, figured: float = FIGURES, total: float = SPREAD) -> None:
    """Add the whitening block to a student.

    vit: it ends with its trained blocks.  pictures: photographs, float [M, 3, px, px] in 0..1.  figured: f.  total: c.
    """
    scans, glyphs = glyph_scans(pictures.shape[-1])
    views, figures = figure_views(*SHOWN, pictures.shape[-1])
    seen = [vectors(vit, images) for images in (scans, views, pictures)]
    parts = (
        (1.0, within(seen[0], glyphs)),
        (figured, within(seen[1], figures)),
        (total, covariance(seen[2])),
    )
    append_map(vit, *whitening(parts, torch.cat(seen)))


def mild_crops(data: Path) -> Tensor:
    """Crops of about 400 training images of each archive in `data`: float [M, 3, px, px] in 0..1.

    Raises FileNotFoundError.
    """
    archives = (("cifar100_train_webp.npz", 125), ("cub100_train_webp.npz", 7))
    pictures = torch.cat([read_archive(data / name, STUDENT_PX, every) for name, every in archives])
    return sample(pictures.float() / 255, crop_frames(len(pictures), 0.6, flip=True), STUDENT_PX)


@torch.no_grad()
def vectors(vit: VisionTransformer, images: Tensor) -> Tensor:
    """Vectors [N, d] of float images [N, 3, px, px] in 0..1."""
    return torch.cat([vit((part - 0.5) / 0.5) for part in torch.split(images, 64)])


@torch.no_grad()
def whitening(parts: Iterable[tuple[float, Tensor]], everything: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [d] of all vectors, and the symmetric map [d, d].

    parts: weights, and covariances [d, d].  everything: vectors [N, d].
    """
    values, axes = torch.linalg.eigh(sum(weight * part / part.trace() for weight, part in parts))
    inverse_root = ((axes * values.clamp_min(1e-9).rsqrt()) @ axes.T).float()
    mean = everything.mean(0)
    return mean, inverse_root / ((everything - mean) @ inverse_root).std()


def within(vectors: Tensor, groups: Tensor) -> Tensor:
    """Covariance [d, d] of vectors [N, d] about the means of their groups, int64 [N] from 0."""
    means = torch.stack([vectors[groups == group].mean(0) for group in range(int(groups.max()) + 1)])
    return covariance(vectors - means[groups])


def covariance(vectors: Tensor) -> Tensor:
    """[d, d] in float64, of vectors [N, d]."""
    centred = (vectors - vectors.mean(0)).double()
    return centred.T @ centred / len(vectors)


@torch.no_grad()
def append_map(vit: VisionTransformer, mean: Tensor, mapping: Tensor) -> None:
    """Add a block after which the normalised vector y is LN((y - mean) mapping), up to 1 / GAIN.

    vit: its MLPs must be at least twice as wide as its vectors.  mean: [d].  mapping: [d, d].
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


def remove_map(vit: VisionTransformer) -> None:
    """Undo `append_map`."""
    vit.norm = vit.blocks[-1].norm2
    vit.blocks = vit.blocks[:-1]


def unwhitened(backbone: Path) -> VisionTransformer:
    """An exported backbone as it was trained, without the last block."""
    vit, _ = load_bundled(backbone)
    remove_map(vit)
    return vit


def main(
    data: Annotated[Path, typer.Option(help="Folder with the archives.")] = DATA,
    backbone: Annotated[Path, typer.Option(help="Exported backbone whose last block is replaced.")] = BUNDLED,
    weights: Annotated[Path, typer.Option(help="Where to write the result.")] = BUNDLED,
    figured: Annotated[float, typer.Option(help="Weight of variation within figures.")] = FIGURES,
    total: Annotated[float, typer.Option(help="Weight of all variation of photographs.")] = SPREAD,
    bare: Annotated[bool, typer.Option(help="Only take the block off, to see what it is worth.")] = False,
) -> None:
    """Whiten a finished backbone anew."""
    torch.manual_seed(0)
    vit = unwhitened(backbone)
    if not bare:
        whiten(vit, mild_crops(data), figured, total)
    typer.echo(f"{weights}: sha256 {export(vit, weights)}")


if __name__ == "__main__":
    typer.run(main)
