"""An image left out is judged as by a head that never saw it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.covariances import CLOSEST, own_directions
from model.head import Discriminant
from model.left_out import LeftOut, left_out_distances, left_out_linear, left_out_logits
from model.moments import ClassMoments, label_rows
from model.shrinkage import ridge

SHRINKAGE, DIM, SKETCH = 0.1, 24, 8
CLASSES = 2 * CLOSEST


def images(per_class: int, seed: int) -> tuple[Tensor, tuple[str, ...]]:
    """Clusters that overlap, each wide along an axis of its own: vectors [n, d], and labels; centres are the same."""
    centres = 2 * torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(0))
    widths = 1 + 3 * torch.eye(DIM)[:CLASSES]
    noise = torch.randn(CLASSES, per_class, DIM, generator=torch.Generator().manual_seed(seed))
    vectors = centres[:, None] + widths[:, None] * noise
    return vectors.flatten(0, 1), tuple(f"class {i}" for i in range(CLASSES) for _ in range(per_class))


def observed(vectors: Tensor, labels: tuple[str, ...], sketch: int = SKETCH) -> ClassMoments:
    return ClassMoments.empty(DIM, sketch).observe(vectors, labels)


def solved(moments: ClassMoments) -> Discriminant:
    return Discriminant.of(moments, SHRINKAGE)


def without(row: int, vectors: Tensor, labels: tuple[str, ...]) -> ClassMoments:
    others = [i for i in range(len(labels)) if i != row]
    return observed(vectors[others], tuple(labels[i] for i in others))


def left_out_all(found: Discriminant, vectors: Tensor, rows: Tensor) -> LeftOut:
    """More than are judged where there are many."""
    return LeftOut(vectors, rows, left_out_distances(found, vectors, rows))


def test_leaving_an_image_out_gives_what_solving_without_it_would() -> None:
    vectors, labels = images(per_class=6, seed=1)
    moments = observed(vectors, labels)
    whole = solved(moments)
    found = left_out_linear(whole, left_out_all(whole, vectors, label_rows(labels, moments.labels)))
    added = ridge(moments.covariance, moments.freedom, SHRINKAGE).diag()
    for row in (0, 7, 29):
        left = without(row, vectors, labels)
        covariance = left.covariance * left.freedom / moments.freedom + added
        off = vectors[row].double() - left.means  # [C, d]
        distances = (off * torch.linalg.solve(covariance, off.mT).mT).sum(dim=1)
        own = label_rows(labels, moments.labels)[row]
        expected = whole.allowance(moments.counts) - 0.5 * distances
        expected[own] += 0.5 * whole.error * (1 / 5 - 1 / 6)  # its mean is one of five, not six
        torch.testing.assert_close(found[row].log_softmax(dim=0), expected.log_softmax(dim=0))


@pytest.mark.parametrize("per_class", [2, 60])
def test_the_covariance_of_its_own_class_is_solved_without_it(per_class: int) -> None:
    vectors, labels = images(per_class, seed=1)
    moments = observed(vectors, labels)
    whole, rows = solved(moments), label_rows(labels, moments.labels)
    left_out = left_out_all(whole, vectors, rows)
    found, linear = left_out_logits(whole, left_out), left_out_linear(whole, left_out)
    worked_out = 0
    for row in range(0, len(labels), 7):
        own, left = rows[row], without(row, vectors, labels)
        parts = left.scatter[own][None], left.counts[own][None].float(), whole.cholesky.float()
        directions, volumes, _ = own_directions(*parts)
        paid = linear[row] - whole.volumes
        paid[own] = linear[row, own] - volumes[0]
        along = directions[0] @ (vectors[row].double() - left.means[own]).float()
        gain = 0.5 * along.square().sum() if own in paid.topk(CLOSEST).indices else torch.zeros(())
        worked_out += int(gain > 0)
        torch.testing.assert_close(found[row, own], paid[own] + gain, rtol=1e-3, atol=1e-3)
        others = torch.arange(CLASSES) != own
        assert whole.covariances is not None
        expected = whole.covariances.with_gains(vectors[row][None], paid[None])[0]
        torch.testing.assert_close(found[row, others], expected[others])
    assert worked_out or per_class == 2, "one image alone has no spread, so nothing to gain"


def test_an_image_that_its_class_was_solved_from_would_seem_closer_to_it() -> None:
    vectors, labels = images(per_class=20, seed=1)
    moments = observed(vectors, labels)
    whole, rows = solved(moments), label_rows(labels, moments.labels)
    column = rows.unsqueeze(1)
    left = left_out_logits(whole, left_out_all(whole, vectors, rows)).log_softmax(dim=1).gather(1, column)
    seen = whole.head().logits(vectors).log_softmax(dim=1).gather(1, column)
    assert left.mean() < seen.mean()


def test_classes_that_moved_were_forgotten_or_come_again_are_still_judged() -> None:
    vectors, labels = images(per_class=6, seed=1)
    moments = observed(vectors, labels)
    moved = torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(3)).double()
    more, names = images(per_class=3, seed=2)
    carried, all_but_one, none = (
        moments.shifted(5 * moved),
        moments.without(frozenset(labels[6:])),
        moments.without(frozenset(labels)),
    )
    for before in (carried, all_but_one, none):
        after = before.observe(more, names)
        rows = label_rows(names, after.labels)
        whole = solved(after)
        left_out = left_out_all(whole, more, rows)
        assert torch.isfinite(left_out_logits(whole, left_out)).all()
        own = left_out_linear(whole, left_out).gather(1, rows.unsqueeze(1))
        assert (own <= 0).all(), "half a squared distance, negated"
