"""What a search over fewer keys would cost: `python -m benchmarks.search --out benchmarks/results/search.json`.

The loop reads every key of a pool at every step. A two-level search would read them all for the first question alone
and let the later steps choose among the slots nearest to that. Here both run over large random pools. Reported are,
step by step, the share of slots that both keep and the cosine of what both recall. Two kinds of pools mark the ends of
what training may leave: values that have nothing to do with their keys, so that feedback asks for something else, and
values that resemble them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from benchmarks.machine import keep
from model.deliberation import LoopConfig, Memory, feed_back, normalise, recall, remember, separate

NOISE = 0.5
"""Of a value that resembles its key, beside the key's own length."""


def trail(query: Tensor, memory: Memory, config: LoopConfig, beyond: Tensor) -> tuple[Tensor, Tensor]:
    """The loop's slots [B, T, k] and recalls [B, T, d] for questions [B, 1, d].

    beyond: [B, 1, M], -inf at the slots that a sample may not find.
    """
    slots, vectors = [], []
    for _ in range(config.tmax):
        scores, best = (query @ memory.addresses + beyond).topk(config.topk, dim=-1)  # [B, 1, k]
        weights = scores.softmax(dim=-1)
        slots.append(best)
        vectors.append(recall(weights, best.squeeze(1), memory.values))
        query = feed_back(query, recall(weights, best.squeeze(1), memory.echoes), config.alpha)
    return torch.cat(slots, dim=1), torch.cat(vectors, dim=1)


def shortlist(query: Tensor, memory: Memory, size: int) -> Tensor:
    """[B, 1, M]: 0 at the `size` slots nearest to each first question [B, 1, d], -inf elsewhere."""
    _, nearest = separate(query, memory, size, None)
    return torch.full((len(query), 1, memory.slots), float("-inf")).scatter(2, nearest, 0.0)


def compare(query: Tensor, memory: Memory, config: LoopConfig, size: int) -> dict[str, list[float]]:
    """Step by step: the share of slots that the whole search keeps and the short one too, and how alike they recall."""
    everywhere = torch.zeros(1, 1, memory.slots)
    slots, vectors = trail(query, memory, config, everywhere)
    short_slots, short_vectors = trail(query, memory, config, shortlist(query, memory, size))
    same = (slots.unsqueeze(-1) == short_slots.unsqueeze(-2)).any(dim=-1).float()  # [B, T, k]
    return {
        "same_slots": same.mean(dim=(0, 2)).tolist(),
        "cosine": F.cosine_similarity(vectors, short_vectors, dim=-1).mean(dim=0).tolist(),
    }


def pools(slots: int, dim: int, config: LoopConfig) -> dict[str, Memory]:
    """The two kinds, P the identity as at birth."""
    random = torch.Generator().manual_seed(0)
    keys = F.normalize(torch.randn(slots, dim, generator=random), dim=-1)
    noise = torch.randn(slots, dim, generator=random)
    values = {"values_unlike_keys": noise, "values_like_keys": dim**0.5 * keys + NOISE * noise}
    return {name: remember(keys, value, torch.eye(dim), config) for name, value in values.items()}


def main(
    out: Annotated[Path | None, typer.Option(help="Where to write the figures.")] = None,
    quick: Annotated[bool, typer.Option(help="A tenth of the slots.")] = False,
    dim: Annotated[int, typer.Option(help="Channels; 192 are DeiT-Tiny's.")] = 192,
) -> None:
    """Compare both searches."""
    slots, config = 1_000 if quick else 10_000, LoopConfig()
    query = normalise(torch.randn(32, 1, dim, generator=torch.Generator().manual_seed(1)))
    found: dict[str, Any] = {
        name: {f"{size}_slots": compare(query, memory, config, size) for size in (slots // 40, slots // 10)}
        for name, memory in pools(slots, dim, config).items()
    }
    command = f"python -m benchmarks.search{' --quick' if quick else ''}"
    keep({"command": command, "slots": slots, "dim": dim, "questions": len(query), **found}, out)


if __name__ == "__main__":
    typer.run(main)
