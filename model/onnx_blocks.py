"""A transformer block as onnxruntime runs it fastest on a CPU: projections, heads and attention in one node.

Written out, attention moves its queries, keys and values between layouts a dozen times; the node `Attention` of
onnxruntime's own operator set does not. It makes queries of all tokens it is given, so those of the recalled vectors
are computed too and dropped: a thousandth of a ViT's work, and less time than keeping the two kinds apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from model.deliberation import Recall
from model.fusion import finish
from model.network import RetrievalViT


class OnnxViT(RetrievalViT):
    """A `RetrievalViT` to export: it computes nothing in torch, and its graph runs in onnxruntime alone."""

    def pass_block(self, block: Block, x: Tensor, found: Recall | None) -> Tensor:
        """x [B, N, d] -> [B, N, d]. A backbone that normalises queries or keys keeps attention written out."""
        attn, tokens, mask = block.attn, x.shape[1], None
        if attn.qkv.bias is None or not all(isinstance(m, nn.Identity) for m in (attn.q_norm, attn.k_norm)):
            return super().pass_block(block, x, found)
        seen = x
        if found is not None:
            seen = torch.cat([x, found.vectors], dim=1)  # [B, N+T, d]
            mask = None if found.used is None else F.pad(found.used.int(), (tokens, 0), value=1)  # [B, N+T]
        mixed = attend(attn, block.norm1(seen), mask)[:, :tokens]  # [B, N, d]
        return finish(block, x, attn.proj(attn.norm(mixed)))


def attend(attn: Attention, seen: Tensor, mask: Tensor | None) -> Tensor:
    """Multi-head attention before its output projection: tokens [B, N, d] -> [B, N, d].

    mask: [B, N] int32, 0 where a token is not to be seen; None shows all.
    """
    return torch.onnx.ops.symbolic(
        "com.microsoft::Attention",
        [seen, attn.qkv.weight.mT, attn.qkv.bias, mask],
        {"num_heads": attn.num_heads},
        dtype=torch.float32,
        shape=(*seen.shape[:2], attn.attn_dim),
        version=1,
    )
