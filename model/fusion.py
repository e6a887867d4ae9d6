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


class Heads(NamedTuple):
    """What attention works on, split in heads: queries [B, H, N, d/H], keys and values [B, H, N+T, d/H]."""

    query: Tensor
    key: Tensor
    value: Tensor


def block_with_recall(block: Block, x: Tensor, recall: Recall) -> Tensor:
    """A frozen pre-norm block whose attention also sees the recalled vectors: x [B, N, d] -> [B, N, d].

    The vectors pass the block's own norm1, W_k and W_v. Steps a sample did not take are masked with -inf.
    """
    mask = None if recall.used is None else attention_mask(recall.used, x.shape[1])
    return finish(block, x, mix(block.attn, heads_with_recall(block, x, recall), mask))


def block_with_merging(block: Block, tokens: Tokens, recall: Recall | None, pairs: int) -> Tokens:
    """The same for tokens of different sizes, `pairs` of which merge before the MLP: N -> N - pairs tokens."""
    used = None if recall is None else recall.used
    heads = heads_with_recall(block, tokens.x, recall)
    mask = size_mask(tokens.sizes, used, heads.key.shape[2])
    keys = heads.key[:, :, : tokens.x.shape[1]].mean(dim=1)  # [B, N, d/H]
    return finish_merging(block, tokens, mix(block.attn, heads, mask), keys, pairs)


def heads_with_recall(block: Block, x: Tensor, recall: Recall | None) -> Heads:
    """Queries of the tokens x [B, N, d]; keys and values of the tokens and, in one product, of what was recalled."""
    attn, seen = block.attn, block.norm1(x)
    if recall is None:
        return split_heads(attn, *attn.qkv(seen).chunk(3, dim=-1))
    dim, weight, bias = attn.attn_dim, attn.qkv.weight, attn.qkv.bias
    of_query, of_rest = (None, None) if bias is None else (bias[:dim], bias[dim:])
    query = F.linear(seen, weight[:dim], of_query)  # [B, N, d]
    seen = torch.cat([seen, block.norm1(recall.vectors)], dim=1)  # [B, N+T, d]
    key, value = F.linear(seen, weight[dim:], of_rest).chunk(2, dim=-1)  # [B, N+T, d] each
    return split_heads(attn, query, key, value)


def split_heads(attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Heads:
    """[B, N, d] each -> [B, H, N, d/H] each, normalised where the backbone does that."""
    query, key, value = (x.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    return Heads(attn.q_norm(query), attn.k_norm(key), value)


def mix(attn: Attention, heads: Heads, mask: Tensor | None = None) -> Tensor:
    """Attention proper, and the output projection -> [B, N, d]."""
    mixed = F.scaled_dot_product_attention(*heads, attn_mask=mask)  # [B, H, N, d/H]
    return attn.proj_drop(attn.proj(attn.norm(mixed.transpose(1, 2).flatten(2))))


def finish(block: Block, x: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a pre-norm block after its attention: both residuals and the MLP, [B, N, d]."""
    x = x + block.drop_path1(block.ls1(mixed))
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def finish_merging(block: Block, tokens: Tokens, mixed: Tensor, keys: Tensor, pairs: int) -> Tokens:
    """`finish`, with `pairs` of the tokens merged by their keys [B, N, c] in between."""
    tokens = tokens._replace(x=tokens.x + block.drop_path1(block.ls1(mixed)))
    if pairs != 0:
        tokens = merge(tokens, keys, pairs)
    x = tokens.x + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens.x))))
    return tokens._replace(x=x)


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
