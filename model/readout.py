"""What the head reads of an image: class token and mean patch token, at four depths.

The last block of a pretrained transformer keeps what separates the classes it was trained on and drops much that
earlier blocks still hold. Ahrens et al., Read Between the Layers (LayUP, TMLR 2024), read several of them into a
closed-form head. A discriminant weighs each direction by how much it varies within a class, so nothing here is tuned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

DEPTHS = (1 / 2, 2 / 3, 5 / 6, 1.0)
"""Where to read, as shares of the backbone's depth: of twelve blocks the 6th, 8th, 10th and 12th."""


def blocks_read(depth: int) -> tuple[int, ...]:
    """Numbers, counted from 1, of the blocks whose tokens are read; the last is always one of them."""
    return tuple(dict.fromkeys(max(1, round(share * depth)) for share in DEPTHS))


def read_block(x: Tensor, prefix: int, classed: bool, sizes: Tensor | None = None) -> list[Tensor]:
    """Tokens [B, N, d] of one block -> mean patch token and, with one, class token, [B, d] each.

    prefix: tokens before the patches.  classed: whether the first of them is a class token; registers are not read.
    sizes: [B, N, 1], the patches each token stands for (`model.merging`); None counts each once.
    """
    patches = x[:, prefix:]  # [B, N-p, d]
    if sizes is None:
        mean = patches.mean(dim=1)
    else:
        mean = (patches * sizes[:, prefix:]).sum(dim=1) / sizes[:, prefix:].sum(dim=1)
    return [mean, x[:, 0]] if classed else [mean]


def read_out(parts: Sequence[Tensor]) -> Tensor:
    """What `read_block` gave of every block read, R x [B, d] -> one vector an image [B, F = R d], of length one.

    Every part has the same length in it, so no depth drowns another.
    """
    scaled = [F.layer_norm(part.float(), part.shape[-1:]) for part in parts]
    return F.normalize(torch.cat(scaled, dim=-1), dim=-1)
