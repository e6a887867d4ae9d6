"""The loop, against its equations and against the traps of the design notes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from model.budget import Budget, BudgetBatch
from model.deliberation import LoopConfig, deliberate, feed_back, normalise, remember, seed_query, separate
from model.losses import entropy
from model.pools import Pools


def tokens(batch: int = 5, dim: int = 48) -> torch.Tensor:
    return torch.randn(batch, 17, dim, generator=torch.Generator().manual_seed(3))


def by_the_book(
    x: torch.Tensor, pools: Pools, layer: int, config: LoopConfig, budget: Budget
) -> list[torch.Tensor]:
    """The equations written out slowly for one sample [N, d], in float64; returns the recalled vectors it used."""
    x, keys = x.double(), pools.keys[layer].double()
    values, feedback = pools.values[layer].double(), pools.feedback[layer].double()
    norm = lambda v: (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt()  # noqa: E731
    query, recalled = norm(x.mean(dim=0)), []
    for t in range(budget.tmax):
        scores = keys @ query / (config.temperature * math.sqrt(len(query)))
        kept = scores.argsort(descending=True)[: budget.topk]
        weights = scores[kept].exp() / scores[kept].exp().sum()
        recalled.append(weights @ values[kept])
        if t > 0 and (recalled[-1] - recalled[-2]).norm() < budget.epsilon:
            break
        query = norm(config.alpha * query + (1 - config.alpha) * norm(feedback @ recalled[-1]))
    return recalled


@pytest.mark.parametrize(
    "budget", [Budget(1, 0, 1), Budget(4, 0, 5), Budget(3, 2.0, 3), Budget(4, 3.0, 12), Budget(4, 1e9, 5)]
)
def test_follows_the_equations(pools: Pools, budget: Budget) -> None:
    config, x = LoopConfig(alpha=0.3), tokens()
    memory = remember(pools.keys[2], pools.values[2], pools.feedback[2], config)
    found = deliberate(x, memory, BudgetBatch.repeat(budget, len(x)), config)
    for i, sample in enumerate(x):
        expected = by_the_book(sample, pools, 2, config, budget)
        used = len(expected) if found.used is None else int(found.used[i].sum())
        assert used == len(expected)
        torch.testing.assert_close(
            found.vectors[i, :used].double(), torch.stack(expected), rtol=1e-4, atol=1e-4
        )


def test_mixed_budgets_answer_as_if_alone(pools: Pools) -> None:
    budgets = [Budget(1, 0, 1), Budget(4, 0, 12), Budget(3, 2.5, 2), Budget(2, 0, 5), Budget(4, 1e9, 3)]
    config, x = LoopConfig(), tokens()
    memory = pools.memories(config)[0]
    together = deliberate(x, memory, BudgetBatch.of(budgets), config)
    assert together.used is not None
    for i, budget in enumerate(budgets):
        alone = deliberate(x[i : i + 1], memory, BudgetBatch.of([budget]), config)
        steps = int(together.used[i].sum())
        assert steps == (alone.vectors.shape[1] if alone.used is None else int(alone.used.sum()))
        torch.testing.assert_close(
            together.vectors[i, :steps], alone.vectors[0, :steps], rtol=1e-5, atol=1e-5
        )


def test_epsilon_never_stops_the_first_step_and_a_huge_one_stops_the_second(pools: Pools) -> None:
    config = LoopConfig()
    found = deliberate(tokens(), pools.memories(config)[0], BudgetBatch.repeat(Budget(4, 1e9, 5), 5), config)
    assert found.used is not None
    assert found.used.sum(dim=1).tolist() == [2] * 5


def test_alpha_one_asks_the_same_question_every_time(pools: Pools) -> None:
    config = LoopConfig(alpha=1.0)
    found = deliberate(tokens(), pools.memories(config)[0], BudgetBatch.repeat(Budget(4), 5), config)
    for t in range(1, 4):
        torch.testing.assert_close(found.vectors[:, t], found.vectors[:, 0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.5, 1.0])
def test_feedback_is_the_paper_s_whatever_the_share(alpha: float) -> None:
    query, echo = (normalise(x).unsqueeze(1) for x in (tokens()[:, 0], tokens()[:, 1]))
    expected = normalise(alpha * query.double() + (1 - alpha) * normalise(3 * echo.double()))
    torch.testing.assert_close(feed_back(query, 3 * echo, alpha).double(), expected, rtol=1e-4, atol=1e-4)


def test_kept_weights_sum_to_one_and_the_widest_cut_is_the_plain_softmax(pools: Pools) -> None:
    config, query = LoopConfig(), seed_query(tokens())
    memory = pools.memories(config)[0]
    weights, slots = separate(query, memory, 3, None)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(5, 1))
    weights, slots = separate(query, memory, 12, None)
    plain = (F.normalize(query, dim=2) @ pools.keys[0].T / config.temperature).softmax(dim=2)
    torch.testing.assert_close(weights, plain.gather(2, slots), rtol=1e-3, atol=1e-5)


def test_sharpness_of_retrieval_does_not_depend_on_the_width_of_the_backbone() -> None:
    """Cosines of random directions shrink as 1/sqrt(d); a temperature set in those units stays meaningful."""

    def mean_entropy(dim: int, temperature: float) -> float:
        generator = torch.Generator().manual_seed(0)
        query = torch.randn(64, dim, generator=generator)
        near = F.normalize(query[:16] + 0.5 * torch.randn(16, dim, generator=generator), dim=1)
        memory = remember(near, near, torch.eye(dim), LoopConfig(temperature=temperature))
        weights, _ = separate(normalise(query[:16]).unsqueeze(1), memory, 16, None)
        return entropy(weights).mean().item()

    narrow, wide = mean_entropy(64, 0.1), mean_entropy(768, 0.1)
    assert narrow < 0.1 * math.log(16)
    assert wide < 0.1 * math.log(16)
    assert mean_entropy(64, 10.0) > 0.99 * math.log(16)


def test_a_gradient_truncated_at_the_whole_loop_is_the_full_gradient(pools: Pools) -> None:
    def gradient(bptt: int | None) -> torch.Tensor:
        config, keys = LoopConfig(), pools.keys[0].clone().requires_grad_()
        memory = remember(keys, pools.values[0], pools.feedback[0], config)
        found = deliberate(tokens(), memory, BudgetBatch.repeat(Budget(4), 5), config, bptt)
        found.vectors[:, -1].square().sum().backward()
        assert keys.grad is not None
        return keys.grad

    torch.testing.assert_close(gradient(4), gradient(None), rtol=0, atol=0)
    torch.testing.assert_close(gradient(9), gradient(None), rtol=0, atol=0)
    assert not torch.allclose(gradient(1), gradient(None))


def test_only_the_last_steps_pass_a_gradient_back(pools: Pools) -> None:
    def reach_the_first_question(bptt: int | None) -> list[bool]:
        start, config = tokens().requires_grad_(), LoopConfig()
        memory = remember(pools.keys[0], pools.values[0], pools.feedback[0], config)
        found = deliberate(start, memory, BudgetBatch.repeat(Budget(4), 5), config, bptt)
        sums = found.vectors.square().sum(dim=(0, 2))  # [T]
        grads = [torch.autograd.grad(step, start, retain_graph=True, allow_unused=True)[0] for step in sums]
        return [bool(grad is not None and grad.any()) for grad in grads]

    assert reach_the_first_question(None) == [True] * 4
    assert reach_the_first_question(4) == [True] * 4
    assert reach_the_first_question(3) == [True, False, False, False]
    assert reach_the_first_question(1) == [True, False, False, False]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", 1.5),
        ("temperature", 0.0),
        ("layers", ()),
        ("layers", (0,)),
        ("layers", (1, 1)),
        ("layers", (2, 1)),
        ("tmax", 0),
        ("topk", 0),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        LoopConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"), [("tmax", 0), ("epsilon", -1.0), ("epsilon", math.nan), ("topk", 0)]
)
def test_a_wrong_budget_is_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Budget(**{field: value})  # type: ignore[arg-type]
