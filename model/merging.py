"""Token merging: similar tokens are merged on the way through the transformer, which then has less to do.

ToMe (Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023) needs no training. The patch tokens are dealt out
in turn into two sets, leavers and stayers. Between attention and MLP of a block each leaver finds the stayer with the
most similar attention key, and the most similar pairs are averaged. A token remembers how many patches it stands for,
its size, and counts for as much wherever tokens are weighed: in attention (log size is added to its logits), in the
loop's seed query, and in later merges.

ToMe deals anew in every block. Here the sets are dealt once: all shapes are then linear in the number of pairs, which
an exported graph can take as an input. What `keep` costs in accuracy is measured by `python -m benchmarks.budgets`.

Each sample merges by its own keys, so its answer does not depend on its batch mates. Class and register tokens are
never merged. Shapes: B samples, N tokens (p prefix tokens, then leavers, then s stayers), d channels, r pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_KEEP = 0.5
"""The smallest share of patch tokens that may be asked for."""


class Tokens(NamedTuple):
    """x: [B, N, d].  sizes: [B, N, 1], the patches each token stands for.  prefix: p.  stayers: s."""

    x: Tensor
    sizes: Tensor
    prefix: int
    stayers: int

    @classmethod
    def deal(cls, x: Tensor, prefix: int) -> Tokens:
        """Tokens as they enter block 1, every second patch a stayer. Their order means nothing to a transformer."""
        first, leavers, stayers = x[:, :prefix], x[:, prefix::2], x[:, prefix + 1 :: 2]
        dealt = torch.cat([first, leavers, stayers], dim=1)
        return cls(dealt, torch.ones_like(x[:, :, :1]), prefix, stayers.shape[1])

    def mean(self) -> Tensor:
        """[B, d], over patches and prefix tokens as if none had been merged."""
        return (self.x * self.sizes).sum(dim=1) / self.sizes.sum(dim=1)


def merging_blocks(patches: int, depth: int) -> range:
    """Which blocks merge, counted from 1: the middle half, or fewer if there are hardly any patches to merge.

    Keys of earlier blocks say little about what a token shows, so merging there costs far more accuracy. After the
    middle half there is little left to save.
    """
    first = depth // 4 + 1
    return range(first, first + max(1, min(depth // 2, patches // 4)))


def pairs_a_block(keep: float, patches: int, depth: int) -> int:
    """r, so that about `keep` of the patch tokens remain after the blocks that merge; 0 for keep = 1."""
    blocks = len(merging_blocks(patches, depth))
    return min(round((1 - keep) * patches / blocks), most_pairs(patches, depth))


def most_pairs(patches: int, depth: int) -> int:
    """The largest r: no block runs out of leavers."""
    return (patches + 1) // 2 // len(merging_blocks(patches, depth))


def merge(tokens: Tokens, keys: Tensor, pairs: int) -> Tokens:
    """Average the `pairs` leavers that are most like a stayer, by keys [B, N, c], with it: N tokens become N - r."""
    x, sizes, prefix, stayers = tokens
    end = x.shape[1] - stayers
    keys = F.normalize(keys, dim=-1)
    alike = keys[:, prefix:end] @ keys[:, end:].mT  # [B, N-p-s, s]
    best, partner = alike.max(dim=-1)  # [B, N-p-s]
    order = best.argsort(dim=-1, descending=True)  # [B, N-p-s]
    leaving, left = order[:, :pairs], order[:, pairs:]
    weighed = torch.cat([x * sizes, sizes], dim=-1)  # [B, N, d+1], so that sums of x and of sizes go together
    leavers, joined = weighed[:, prefix:end], weighed[:, end:]
    joins = F.one_hot(partner.gather(1, leaving), stayers).to(x.dtype)  # [B, r, s]
    joined = joined + joins.mT @ take(leavers, leaving)
    weighed = torch.cat([weighed[:, :prefix], take(leavers, left), joined], dim=1)  # [B, N-r, d+1]
    sizes = weighed[..., -1:]
    return Tokens(weighed[..., :-1] / sizes, sizes, prefix, stayers)


def take(x: Tensor, rows: Tensor) -> Tensor:
    """x [B, N, c], rows [B, k] -> [B, k, c]."""
    return x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
