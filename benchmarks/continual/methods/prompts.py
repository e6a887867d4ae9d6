"""Single-step retrieval: L2P, DualPrompt and CODA-Prompt as configurations of one frozen transformer with prompts.

What differs from the loop of `model.deliberation`: one step instead of several; the query is the frozen transformer's
own answer, which costs a second pass; keys are shared by layers or not; what is recalled is several vectors, which
become tokens at the input or keys and values in some layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from benchmarks.continual.methods.base import Setting
from benchmarks.continual.methods.bodies import Described
from benchmarks.continual.methods.gates import Choice, attentive, given, nearest, orthogonality
from model.deliberation import recall
from model.fusion import finish, mix, split_heads


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """What is retrieved, how it is chosen and where it goes.

    gate: `nearest` takes the `count` best keys; `task` the same at test and the task's own slot in training;
        `attention` weighs all slots of the tasks so far, and trains the newest task's share of them alone.
    place: `tokens` at the input, described by their mean; or `prefix`, half of a prompt each to keys and values.
    layers: blocks that get a prefix, counted from 1.
    own_keys: whether every layer has keys of its own.
    slots: M, in all; None takes one a task.  length: vectors a prompt holds.
    shared_layers, shared_length: blocks that get one more prompt, the same for every image.
    match: weight of the distance between query and chosen keys.  orth: weight of CODA-Prompt's orthogonality.
    """

    gate: str = "nearest"
    place: str = "tokens"
    layers: tuple[int, ...] = (1,)
    own_keys: bool = False
    slots: int | None = 10
    length: int = 5
    count: int = 5
    shared_layers: tuple[int, ...] = ()
    shared_length: int = 0
    match: float = 0.5
    orth: float = 0.0

    def __post_init__(self) -> None:
        if self.gate not in ("nearest", "task", "attention"):
            raise ValueError(f"gate is {self.gate!r}; it must be nearest, task or attention")
        if self.place not in ("tokens", "prefix"):
            raise ValueError(f"place is {self.place!r}; it must be tokens or prefix")
        if self.place == "tokens" and len(self.layers) > 1:
            raise ValueError(f"layers is {self.layers}; tokens enter once, at the input")

    def build(self, setting: Setting) -> Prompts:
        return Prompts(self, setting)


L2P = PromptConfig()
DUAL_PROMPT = PromptConfig(
    gate="task", place="prefix", layers=(3, 4, 5), slots=None, length=20, count=1, shared_layers=(1, 2),
    shared_length=6, match=1.0,
)  # fmt: skip
"""Task prompts of 20 in layers 3-5 as published; the general ones hold 6 instead of 5, since a half each goes to keys
and values."""

CODA_PROMPT = PromptConfig(
    gate="attention", place="prefix", layers=(1, 2, 3, 4, 5), own_keys=True, slots=100, length=8, match=0.0
)  # fmt: skip
"""Without the penalty of orthogonality: the authors' code weighs the mean square by 1e-7, which is as good as none. A
tenth of the sum, as the paper's equation reads, holds the components where they start, and costs many points on
validation images (`python -m benchmarks.continual.tune --method coda --also body.orth=0.1`)."""


class Prompts(nn.Module):
    """A frozen backbone and trained prompts. L layers that retrieve, G sets of keys (L or 1), M slots."""

    def __init__(self, config: PromptConfig, setting: Setting) -> None:
        super().__init__()
        self.config, self.backbone, self.task = config, setting.backbone, 0
        self.width = self.backbone.dim
        dim, layers, slots = self.backbone.dim, len(config.layers), config.slots or setting.tasks
        self.share = max(1, slots // setting.tasks)
        groups = layers if config.own_keys else 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            self.keys = start(config, groups, slots, dim)
            self.values = start(config, layers, slots, config.length * dim)
            self.attention = start(config, groups, slots, dim) if config.gate == "attention" else None
            self.shared = start(config, len(config.shared_layers), config.shared_length, dim)
        self.to(setting.device)

    def begin(self, task: int) -> None:
        self.task = task

    @torch.no_grad()
    def ask(self, pixels: Tensor) -> Tensor:
        """q(x) [B, d]: the frozen transformer's feature vector."""
        return self.backbone.pool(self.backbone.vit.blocks(self.backbone.embed(pixels)))

    def describe(self, pixels: Tensor, query: Tensor, learning: bool) -> Described:
        keys, values = self.open(self.keys, learning), self.open(self.values, learning)
        attention = None if self.attention is None else self.open(self.attention, learning)
        choices = [
            self.choose(query, rows, None if attention is None else attention[group], learning)
            for group, rows in enumerate(keys)
        ]
        penalty = self.config.match * torch.stack([choice.distance.mean() for choice in choices]).mean()
        if learning and self.config.orth:
            parts = (keys, values) if attention is None else (keys, values, attention)
            penalty = penalty + self.config.orth * sum(orthogonality(rows) for part in parts for rows in part)
        if not self.config.own_keys:
            choices = choices * len(values)
        x = self.backbone.embed(pixels)
        if self.config.place == "tokens":
            return Described(self.with_tokens(x, separately(choices[0], values[0])), penalty)
        return Described(
            self.with_prefixes(x, [mixed(*pair) for pair in zip(choices, values, strict=True)]), penalty
        )

    def open(self, slots: Tensor, learning: bool) -> Tensor:
        """[., M, .] -> the slots of the tasks so far, where slots belong to tasks; old ones frozen while learning."""
        if self.config.gate == "nearest":
            return slots
        old, new = self.share * self.task, self.share * (self.task + 1)
        return torch.cat([slots[:, :old].detach(), slots[:, old:new]], dim=1) if learning else slots[:, :new]

    def choose(self, query: Tensor, keys: Tensor, attention: Tensor | None, learning: bool) -> Choice:
        """The slots of each query [B, d] by the configured gate; keys and attention [M, d]."""
        if attention is not None:
            return attentive(query, keys, attention)
        if self.config.gate == "task" and learning:
            return given(query, keys, self.task)
        return nearest(query, keys, self.config.count)

    def with_tokens(self, x: Tensor, prompts: Tensor) -> Tensor:
        """Prompts [B, N * length * d] as tokens before x [B, N', d], through all blocks; their mean [B, d]."""
        vit = self.backbone.vit
        prompts = prompts.unflatten(1, (-1, x.shape[-1]))
        tokens = vit.norm(vit.blocks(torch.cat([prompts, x], dim=1)))
        return tokens[:, : prompts.shape[1]].mean(dim=1)

    def with_prefixes(self, x: Tensor, prompts: list[Tensor]) -> Tensor:
        """Prompts [B, length * d], one for each retrieving layer, as keys and values there -> features [B, d]."""
        prefixes = dict(zip(self.config.layers, prompts, strict=True))
        prefixes |= {
            layer: prompt.flatten().expand(len(x), -1)
            for layer, prompt in zip(self.config.shared_layers, self.shared, strict=True)
        }
        for layer, block in enumerate(self.backbone.vit.blocks, start=1):
            if layer in prefixes:
                halves = prefixes[layer].unflatten(1, (-1, x.shape[-1])).chunk(2, dim=1)
                x = block_with_prefix(block, x, *halves)
            else:
                x = block(x)
        return self.backbone.pool(x)


def block_with_prefix(block: Block, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """A pre-norm block whose attention also sees keys and values [B, p, d] beside those of its tokens: x [B, N, d] ->
    [B, N, d]."""
    query, key, value = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)  # [B, N, d] each
    key, value = torch.cat([key, keys], dim=1), torch.cat([value, values], dim=1)
    return finish(block, x, mix(block.attn, split_heads(block.attn, query, key, value)))


def separately(choice: Choice, values: Tensor) -> Tensor:
    """What each slot chosen holds, one after another: [B, N] of [M, w] -> [B, N * w]."""
    return recall(choice.weights[..., None, None], choice.slots.unsqueeze(-1), values).flatten(1)


def mixed(choice: Choice, values: Tensor) -> Tensor:
    """What the slots chosen hold, weighed and added: [B, N] of [M, w] -> [B, w]."""
    return recall(choice.weights.unsqueeze(1), choice.slots, values).squeeze(1)


def start(config: PromptConfig, groups: int, rows: int, width: int) -> nn.Parameter:
    """[groups, rows, width] as published: orthonormal rows for CODA-Prompt, uniform in -1..1 for the others."""
    values = torch.empty(groups, rows, width)
    if config.gate != "attention":
        return nn.Parameter(values.uniform_(-1, 1))
    for group in values:
        nn.init.orthogonal_(group)
    return nn.Parameter(values)
