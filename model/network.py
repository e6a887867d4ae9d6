"""The frozen transformer with the loop inside: pixels in, one feature vector an image out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from model.backbone import Backbone
from model.budget import BudgetBatch
from model.deliberation import LoopConfig, Memory, Recall, deliberate
from model.fusion import block_with_merging, block_with_recall
from model.merging import Tokens, merging_blocks
from model.readout import read_out


class Features(NamedTuple):
    """What the network makes of a batch.

    vectors: [B, F], of length one, what the head reads; see `model.readout`.
    recalls: what each deliberating layer recalled, in order; empty without slots.
    """

    vectors: Tensor
    recalls: list[Recall]

    @property
    def steps(self) -> Tensor:
        """[B, L] int64: steps each sample took in each deliberating layer; [B, 0] without slots."""
        if not self.recalls:
            return torch.zeros(self.vectors.shape[0], 0, dtype=torch.int64)
        batch, steps, _ = self.recalls[0].vectors.shape
        if self.recalls[0].used is None:
            return torch.full((batch, len(self.recalls)), steps, device=self.vectors.device)
        return torch.stack([layer.used.sum(dim=1) for layer in self.recalls if layer.used is not None], dim=1)


class RetrievalViT(nn.Module):
    """Runs a frozen backbone whose first layers consult their memories before they attend."""

    def __init__(self, backbone: Backbone, loop: LoopConfig) -> None:
        """Raises ValueError when the loop names a block the backbone does not have."""
        super().__init__()
        if max(loop.layers) > backbone.depth:
            raise ValueError(
                f"layers is {loop.layers}; {backbone.identity.name} has blocks 1..{backbone.depth}"
            )
        self.backbone = backbone
        self.loop = loop

    def forward(
        self,
        pixels: Tensor,
        memories: Sequence[Memory],
        budgets: BudgetBatch,
        bptt: int | None = None,
        pairs: int | None = None,
    ) -> Features:
        """uint8 pixels [B, 3, px, px] -> features. No memories is the plain transformer, exactly.

        memories: one for each of `loop.layers` in that order, or none.  bptt: see `deliberate`.
        pairs: tokens merged in each middle block; None follows the budgets' `keep`.
        """
        memory_of = dict(zip(self.loop.layers, memories, strict=True)) if memories else {}
        x = self.backbone.embed(pixels)  # [B, N, d]
        if pairs is None:
            pairs = self.backbone.pairs(budgets.keep)
        if pairs != 0:
            return self.merging(x, memory_of, budgets, pairs)
        recalls: list[Recall] = []
        read: list[Tensor] = []
        for layer, block in enumerate(self.backbone.vit.blocks, start=1):
            recalled = None
            if layer in memory_of:
                recalled = self.consult(x, memory_of[layer], budgets, bptt)
                recalls.append(recalled)
            x = self.pass_block(block, x, recalled)
            read += self.backbone.read(layer, x)
        return Features(read_out(read), recalls)

    def merging(
        self, x: Tensor, memory_of: Mapping[int, Memory], budgets: BudgetBatch, pairs: int
    ) -> Features:
        """The same for tokens x [B, N, d] entering block 1, `pairs` of which merge in each middle block."""
        recalls: list[Recall] = []
        read: list[Tensor] = []
        tokens = Tokens.deal(x, self.backbone.vit.num_prefix_tokens)
        merging = merging_blocks(self.backbone.patches, self.backbone.depth)
        for layer, block in enumerate(self.backbone.vit.blocks, start=1):
            recalled = None
            if layer in memory_of:
                seed = tokens.mean().unsqueeze(1)  # [B, 1, d], all that the loop reads of the tokens
                recalled = self.consult(seed, memory_of[layer], budgets, None)
                recalls.append(recalled)
            tokens = self.pass_merging(block, tokens, recalled, pairs if layer in merging else 0)
            read += self.backbone.read(layer, tokens.x, tokens.sizes)
        return Features(read_out(read), recalls)

    def consult(self, x: Tensor, memory: Memory, budgets: BudgetBatch, bptt: int | None) -> Recall:
        """What one layer recalls for its tokens x [B, N, d]; ablations put something else here."""
        return deliberate(x, memory, budgets, self.loop, bptt)

    def pass_block(self, block: Block, x: Tensor, recall: Recall | None) -> Tensor:
        """One block over tokens x [B, N, d]; graphs for onnxruntime put something else here."""
        return block(x) if recall is None else block_with_recall(block, x, recall)

    def pass_merging(self, block: Block, tokens: Tokens, recall: Recall | None, pairs: int) -> Tokens:
        """The same where `pairs` of the tokens merge."""
        return block_with_merging(block, tokens, recall, pairs)
