"""CA1: the recalled vectors join the layer's attention, once.

Appending the recalled vectors as tokens, running the block and dropping them again gives the kept tokens exactly
what this gives - attention mixes tokens by their keys and values only, and everything else in a pre-norm block is
per token - but pays for queries and an MLP of tokens nobody reads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor

from model.deliberation import Recall
from model.merging import Tokens, merge


class Entries(NamedTuple):
    """What attention sees besides the tokens: T keys and values a sample, [B, T, d] each, not yet split in heads."""

    keys: Tensor
    values: Tensor


def block_with_recall(block: Block, x: Tensor, found: Recall) -> Tensor:
    """A frozen pre-norm block whose attention also sees the recalled vectors: x [B, N, d] -> [B, N, d].

    The vectors pass the block's own norm1, W_k and W_v. Steps a sample did not take are masked with -inf.
    """
    return block_with_entries(block, x, project(block.attn, block.norm1(found.vectors)), found.used)


def block_with_entries(block: Block, x: Tensor, entries: Entries, used: Tensor | None = None) -> Tensor:
    """A pre-norm block whose attention also sees `entries`: x [B, N, d] -> [B, N, d].  used: [B, T], None sees all."""
    x = x + block.drop_path1(block.ls1(attend(block.attn, block.norm1(x), entries, used)))
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def block_with_merging(block: Block, tokens: Tokens, found: Recall | None, pairs: int) -> Tokens:
    """The same for tokens of different sizes, `pairs` of which merge before the MLP: N -> N - pairs tokens."""
    attn, used = block.attn, None if found is None else found.used
    entries = None if found is None else project(attn, block.norm1(found.vectors))
    query, key, value = project_heads(attn, block.norm1(tokens.x), entries)
    mask = size_mask(tokens.sizes, used, key.shape[2])
    x = tokens.x + block.drop_path1(block.ls1(mix(attn, query, key, value, mask)))
    tokens = tokens._replace(x=x)
    if pairs != 0:
        tokens = merge(tokens, key[:, :, : x.shape[1]].mean(dim=1), pairs)
    x = tokens.x + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens.x))))
    return tokens._replace(x=x)


def project(attn: Attention, vectors: Tensor) -> Entries:
    """Vectors [B, T, d] through W_k and W_v."""
    dim = attn.attn_dim
    bias = None if attn.qkv.bias is None else attn.qkv.bias[dim:]
    return Entries(*F.linear(vectors, attn.qkv.weight[dim:], bias).chunk(2, dim=-1))


def attend(attn: Attention, x: Tensor, entries: Entries, used: Tensor | None) -> Tensor:
    """Multi-head attention of x [B, N, d] over itself and `entries` -> [B, N, d]."""
    mask = None if used is None else attention_mask(used, x.shape[1])
    return mix(attn, *project_heads(attn, x, entries), mask)


def project_heads(attn: Attention, x: Tensor, entries: Entries | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, H, N, d/H] of x, keys and values [B, H, N+T, d/H] of x and `entries`."""
    heads = attn.num_heads
    query, key, value = attn.qkv(x).chunk(3, dim=-1)  # [B, N, d] each
    if entries is not None:
        key, value = torch.cat([key, entries.keys], dim=1), torch.cat([value, entries.values], dim=1)
    query, key = attn.q_norm(split_heads(query, heads)), attn.k_norm(split_heads(key, heads))
    return query, key, split_heads(value, heads)


def mix(attn: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention proper, and the output projection -> [B, N, d]."""
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # [B, H, N, d/H]
    return attn.proj_drop(attn.proj(attn.norm(mixed.transpose(1, 2).flatten(2))))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, N, d] -> [B, H, N, d/H]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attention_mask(used: Tensor, tokens: int) -> Tensor:
    """used [B, T] -> additive mask [B, 1, 1, N+T]: -inf on the steps a sample did not take."""
    unused = torch.where(used, 0.0, float("-inf"))
    return F.pad(unused, (tokens, 0)).unsqueeze(1).unsqueeze(1)


def size_mask(sizes: Tensor, used: Tensor | None, width: int) -> Tensor:
    """sizes [B, N, 1] -> additive mask [B, 1, 1, width]: a token of size s weighs like s tokens.

    The recalled vectors behind the tokens have size 1; -inf on the steps a sample did not take.
    """
    weights = F.pad(sizes.squeeze(-1).log(), (0, width - sizes.shape[1]))  # [B, N+T]
    mask = weights.unsqueeze(1).unsqueeze(1)
    return mask if used is None else mask + attention_mask(used, sizes.shape[1])
