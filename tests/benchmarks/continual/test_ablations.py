from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.continual.ablations import AblatedViT, blindly, by_rank, constants, last_step
from model.backbone import load_backbone
from model.budget import Budget, BudgetBatch
from model.deliberation import LoopConfig, Memory, deliberate, remember
from model.network import RetrievalViT
from model.spec import BackboneSpec
from tests.benchmarks.continual.conftest import BACKBONE

LOOP = LoopConfig(layers=(1, 2), topk=3)


@pytest.fixture
def memory() -> Memory:
    generator = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(12, 16, generator=generator), dim=1)
    return remember(keys, torch.randn(12, 16, generator=generator), torch.eye(16), LOOP)


def tokens() -> torch.Tensor:
    return torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(1))


def test_vectors_by_rank_are_as_many_as_steps_and_share_no_slot(memory: Memory) -> None:
    budgets = BudgetBatch.repeat(LOOP.budget, 5)
    found = by_rank(tokens(), memory, budgets)
    assert found.vectors.shape == (5, 4, 16)
    assert all(len(set(row)) == 12 for row in found.slots.flatten(1).tolist())
    looped = deliberate(tokens(), memory, budgets, LOOP)
    torch.testing.assert_close(
        found.vectors[:, 0], looped.vectors[:, 0]
    )  # the loop's first step is the first rank
    torch.testing.assert_close(found.weights.sum(dim=2), torch.ones(5, 4))


def test_small_pools_mix_fewer_slots_at_a_time(memory: Memory) -> None:
    small = Memory(memory.addresses[:, :9], memory.values[:9], memory.echoes[:9])
    found = by_rank(tokens(), small, BudgetBatch.repeat(LOOP.budget, 5))
    assert found.vectors.shape == (5, 4, 16)
    assert found.slots.shape == (5, 4, 2)


def test_the_last_step_is_each_samples_own(memory: Memory) -> None:
    budgets = BudgetBatch.of([Budget(1), Budget(2), Budget(4), Budget(4), Budget(3)])
    found = deliberate(tokens(), memory, budgets, LOOP)
    kept = last_step(found).vectors[:, 0]
    for row, step in enumerate([0, 1, 3, 3, 2]):
        torch.testing.assert_close(kept[row], found.vectors[row, step])


def test_the_same_question_for_all_images_is_answered_the_same(memory: Memory) -> None:
    found = deliberate(blindly(tokens()), memory, BudgetBatch.repeat(LOOP.budget, 5), LOOP)
    torch.testing.assert_close(found.vectors, found.vectors[:1].expand(5, -1, -1))
    assert not torch.allclose(found.vectors[0, 0], found.vectors[0, 3])


def test_constants_are_the_first_values(memory: Memory) -> None:
    found = constants(5, memory, 4)
    assert torch.equal(found.vectors[2], memory.values[:4])
    assert found.slots.shape == found.weights.shape == (5, 4, 1)


def test_the_variant_named_loop_is_the_product(weights: Path) -> None:
    backbone = load_backbone(BackboneSpec(BACKBONE, weights, 32))
    keys = torch.nn.functional.normalize(torch.randn(2, 12, backbone.dim), dim=-1)
    memories = [remember(k, torch.randn(12, backbone.dim), torch.eye(backbone.dim), LOOP) for k in keys]
    pixels, budgets = (
        torch.randint(0, 255, (3, 3, 32, 32), dtype=torch.uint8),
        BudgetBatch.repeat(LOOP.budget, 3),
    )
    plain = RetrievalViT(backbone, LOOP)(pixels, memories, budgets).vectors
    assert torch.equal(AblatedViT(backbone, LOOP, "loop")(pixels, memories, budgets).vectors, plain)
    for variant in ("last", "ranks", "blind", "constant"):
        assert not torch.allclose(
            AblatedViT(backbone, LOOP, variant)(pixels, memories, budgets).vectors, plain
        )
    with pytest.raises(ValueError, match="variant"):
        AblatedViT(backbone, LOOP, "none")
