"""Token merging: nothing is lost but the difference between what is merged, and keep = 1 is the plain path."""

from __future__ import annotations

import pytest
import torch

from model.budget import Budget, BudgetBatch
from model.deliberation import deliberate
from model.fusion import block_with_merging, block_with_recall
from model.merging import Tokens, merge, merging_blocks, pairs_a_block
from model.network import RetrievalViT
from model.pools import Pools


def test_the_most_alike_tokens_become_their_mean() -> None:
    x = torch.tensor(
        [[[9.0, 9.0], [1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.2, 4.0]]]
    )  # a prefix token and four
    tokens = Tokens.deal(x, prefix=1)
    # [1, 0] and [-1, 0] may leave, [0, 3] and [0.2, 4] stay; of all pairs [1, 0] and [0.2, 4] are most alike.
    merged = merge(tokens, tokens.x, pairs=1)
    torch.testing.assert_close(merged.x[0], torch.tensor([[9.0, 9.0], [-1.0, 0.0], [0.0, 3.0], [0.6, 2.0]]))
    assert merged.sizes[0, :, 0].tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize("patches", [16, 17])
def test_sums_and_sizes_are_kept_however_often_tokens_merge(patches: int) -> None:
    x = torch.randn(3, 2 + patches, 8, generator=torch.Generator().manual_seed(0))
    tokens = Tokens.deal(x, prefix=2)
    for pairs in (5, 2, 1):
        before = tokens.x.shape[1]
        tokens = merge(tokens, tokens.x, pairs)
        assert tokens.x.shape[1] == before - pairs
    assert torch.equal(tokens.sizes.sum(dim=1), torch.full((3, 1), 2.0 + patches))
    torch.testing.assert_close(tokens.mean(), x.mean(dim=1))
    assert torch.equal(tokens.x[:, :2], x[:, :2])


def test_a_token_of_size_three_weighs_like_three_equal_ones(network: RetrievalViT) -> None:
    block, dim = network.backbone.vit.blocks[0], network.backbone.dim
    x = torch.randn(2, 5, dim, generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([1.0, 1, 3, 1, 2]).view(1, 5, 1).expand(2, 5, 1)
    apart = torch.repeat_interleave(x, torch.tensor([1, 1, 3, 1, 2]), dim=1)
    weighed = block_with_merging(block, Tokens(x, sizes, 1, 2), None, 0).x
    torch.testing.assert_close(weighed, block(apart)[:, [0, 1, 2, 5, 6]], rtol=1e-5, atol=1e-5)


def test_without_pairs_it_is_the_fused_block(
    network: RetrievalViT, pools: Pools, pixels: torch.Tensor
) -> None:
    budgets = BudgetBatch.of([Budget(1, 0, 5)] * 3 + [Budget(4, 0, 5)] * 3)
    x = network.backbone.embed(pixels)
    found = deliberate(x, pools.memories(network.loop)[0], budgets, network.loop)
    block = network.backbone.vit.blocks[0]
    dealt = Tokens.deal(x, 1)
    merging = block_with_merging(block, dealt, found, 0)
    fused = Tokens.deal(block_with_recall(block, x, found), 1)
    torch.testing.assert_close(merging.x, fused.x, rtol=1e-5, atol=1e-5)


def test_the_middle_half_merges_down_to_the_share_asked_for() -> None:
    assert list(merging_blocks(196, 12)) == [4, 5, 6, 7, 8, 9]
    assert list(merging_blocks(4, 12)) == [4]
    assert list(merging_blocks(4, 1)) == [1]
    assert [pairs_a_block(keep, 196, 12) for keep in (1.0, 0.75, 0.5)] == [0, 8, 16]
    assert pairs_a_block(0.5, 64, 9) == 8
    assert pairs_a_block(0.5, 7, 1) == 4  # never more than there are to leave


def test_keep_1_is_the_plain_path_exactly_and_less_is_near_it(
    network: RetrievalViT, pools: Pools, pixels: torch.Tensor
) -> None:
    memories = pools.memories(network.loop)
    plain = network(pixels, memories, BudgetBatch.repeat(Budget(4, 0, 5), 6))
    assert torch.equal(
        network(pixels, memories, BudgetBatch.repeat(Budget(4, 0, 5, 1.0), 6)).vectors, plain.vectors
    )
    for keep in (0.75, 0.5):
        merged = network(pixels, memories, BudgetBatch.repeat(Budget(4, 0, 5, keep), 6))
        assert torch.equal(merged.steps, plain.steps)
        assert not torch.equal(merged.vectors, plain.vectors)
        assert torch.cosine_similarity(merged.vectors, plain.vectors).min() > 0.9


def test_merging_does_not_depend_on_batch_mates(
    network: RetrievalViT, pools: Pools, pixels: torch.Tensor
) -> None:
    budgets = [
        Budget(t, e, k, 0.5)
        for t, e, k in ((4, 0, 5), (1, 0, 2), (3, 2.0, 3), (4, 5.0, 12), (2, 0, 1), (4, 0, 7))
    ]
    memories = pools.memories(network.loop)
    together = network(pixels, memories, BudgetBatch.of(budgets))
    for i, budget in enumerate(budgets):
        alone = network(pixels[i : i + 1], memories, BudgetBatch.of([budget]))
        torch.testing.assert_close(alone.vectors[0], together.vectors[i], rtol=1e-4, atol=1e-4)
        assert torch.equal(alone.steps[0], together.steps[i])


def test_keeps_that_differ_or_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="one batch takes one value"):
        BudgetBatch.of([Budget(keep=0.5), Budget(keep=1.0)])
    with pytest.raises(ValueError, match=r"keep is 0.4; it must lie in 0.5..1"):
        Budget(keep=0.4)
