"""A transformer block as onnxruntime runs it fastest on a CPU: projections, heads and attention in one node.

Written out, attention moves its queries, keys and values between layouts a dozen times; the node `Attention` of
onnxruntime's own operator set does not. It makes queries of all tokens it is given, so those of the recalled vectors
are computed too and dropped: some more arithmetic, and less time than keeping the two kinds apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from model.deliberation import Recall
from model.fusion import finish, finish_merging, size_mask
from model.merging import Tokens
from model.network import RetrievalViT


class OnnxViT(RetrievalViT):
    """A `RetrievalViT` to export: it computes nothing in torch, and its graph runs in onnxruntime alone.

    A backbone that normalises queries or keys keeps attention written out.
    """

    def pass_block(self, block: Block, x: Tensor, recall: Recall | None) -> Tensor:
        """x [B, N, d] -> [B, N, d]"""
        if not fits(block.attn):
            return super().pass_block(block, x, recall)
        used = None if recall is None else recall.used
        mask = None if used is None else F.pad(used.int(), (x.shape[1], 0), value=1)  # [B, N+T]
        return finish(block, x, attend(block, x, recall, mask=mask))

    def pass_merging(self, block: Block, tokens: Tokens, recall: Recall | None, pairs: int) -> Tokens:
        attn = block.attn
        if not fits(attn):
            return super().pass_merging(block, tokens, recall, pairs)
        width = tokens.x.shape[1] + (0 if recall is None else recall.vectors.shape[1])
        bias = size_mask(tokens.sizes, None if recall is None else recall.used, width)  # [B, 1, 1, N+T]
        mixed = attend(block, tokens.x, recall, bias=bias.expand(-1, -1, width, -1))
        # The mean over heads of a token's keys, by one product of the heads' mean weights.
        weight, offset = (part.chunk(3)[1] for part in (attn.qkv.weight, attn.qkv.bias))
        weight, offset = (part.unflatten(0, (attn.num_heads, -1)).mean(dim=0) for part in (weight, offset))
        keys = F.linear(block.norm1(tokens.x), weight, offset)  # [B, N, d/H]
        return finish_merging(block, tokens, mixed, keys, pairs)


def fits(attn: Attention) -> bool:
    """Whether the node computes what this attention does."""
    bare = all(isinstance(norm, nn.Identity) for norm in (attn.q_norm, attn.k_norm))
    return bare and attn.qkv.bias is not None


def attend(
    block: Block, x: Tensor, recall: Recall | None, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """A block's attention over its tokens x [B, N, d] and what was recalled -> [B, N, d].

    mask: [B, N+T] int32, 0 where a token is not to be seen.  bias: [B, 1, N+T, N+T], added to the scores.
    """
    attn, seen = block.attn, x if recall is None else torch.cat([x, recall.vectors], dim=1)  # [B, N+T, d]
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::Attention",
        [block.norm1(seen), attn.qkv.weight.mT, attn.qkv.bias, mask, None, bias],
        {"num_heads": attn.num_heads},
        dtype=torch.float32,
        shape=(*seen.shape[:2], attn.attn_dim),
        version=1,
    )
    projected: Tensor = attn.proj(attn.norm(mixed[:, : x.shape[1]]))
    return projected
