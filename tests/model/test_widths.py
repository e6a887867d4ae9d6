"""Distances to a class are measured by how widely it varies, however few images tell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.head import Discriminant
from model.left_out import LeftOut, left_out_distances, left_out_widths
from model.moments import ClassMoments, label_rows
from model.widths import MOST_PRIOR, prior_images, widths

CLASSES, DIM, SKETCH = 12, 48, 8


def moments_of(spreads: list[float], per_class: int, seed: int = 0) -> tuple[ClassMoments, Tensor, Tensor]:
    """Classes of these standard deviations; their images [n, d], and the class of each [n]."""
    random = torch.Generator().manual_seed(seed)
    centres = 5 * torch.randn(len(spreads), 1, DIM, generator=random)
    noise = torch.randn(len(spreads), per_class, DIM, generator=random)
    vectors = (centres + torch.tensor(spreads)[:, None, None] * noise).flatten(0, 1)
    labels = tuple(f"c{row // per_class}" for row in range(len(vectors)))
    moments = ClassMoments.empty(DIM, SKETCH).observe(vectors, labels)
    return moments, vectors, label_rows(labels, moments.labels)


@pytest.mark.parametrize("per_class", [5, 60])
def test_a_class_that_varies_twice_as_much_is_four_times_as_wide(per_class: int) -> None:
    """Its sketch gives the whole scatter of five images, and an estimate of that of sixty."""
    found = Discriminant.of(moments_of([1.0] * 6 + [2.0] * 6, per_class)[0], 1.0)
    narrow, wide = found.widths[:6].mean().item(), found.widths[6:].mean().item()
    assert 2.5 < wide / narrow < 5


def test_new_images_are_as_far_from_their_mean_as_the_width_of_their_class_says() -> None:
    spreads = [1.0] * 8 + [3.0] * 4
    moments, _, _ = moments_of(spreads, 20)
    found = Discriminant.of(moments, 1.0)
    random = torch.Generator().manual_seed(7)
    noise = torch.tensor(spreads)[:, None, None] * torch.randn(CLASSES, 400, DIM, generator=random)
    unseen = 5 * torch.randn(CLASSES, 1, DIM, generator=torch.Generator().manual_seed(0)) + noise
    off = (unseen.double() - moments.means.unsqueeze(1)).flatten(0, 1)
    squared = torch.linalg.solve_triangular(found.cholesky, off.mT, upper=False).square().sum(dim=0)
    expected = found.error * (found.widths + 1 / moments.counts)
    ratios = squared.reshape(CLASSES, -1).mean(dim=1) / expected
    assert 0.6 < ratios.min() < ratios.max() < 1.6


def test_classes_that_differ_by_chance_are_taken_for_equally_wide() -> None:
    found = Discriminant.of(moments_of([1.0] * CLASSES, 4)[0], 1.0)
    assert found.prior > 5
    assert found.widths.std() < 0.15


def test_without_its_image_a_class_is_as_wide_as_one_that_never_had_it() -> None:
    moments, vectors, rows = moments_of([1.0] * 6 + [2.0] * 6, 6)
    found = Discriminant.of(moments, 1.0)
    left_out = LeftOut(vectors, rows, left_out_distances(found, vectors, rows))
    without = left_out_widths(found, left_out, rows)
    other = left_out_widths(found, left_out, (rows + 1) % CLASSES)
    assert torch.allclose(other, found.widths[(rows + 1) % CLASSES])
    residual = vectors[40].double() - moments.means[rows[40]]
    taken = (residual @ torch.cholesky_solve(residual[:, None], found.cholesky)).item() * 6 / 5
    spare, prior = torch.tensor(4.0, dtype=torch.float64), found.prior
    exact = widths(found.lengths[rows[40]] - taken, spare, prior, found.trace, moments.freedom)
    assert without[40].item() == pytest.approx(exact.item(), rel=1e-6)
    kept = torch.arange(len(rows)) != 40
    fewer = ClassMoments.empty(DIM, SKETCH).observe(
        vectors[kept], tuple(moments.labels[row] for row in rows[kept].tolist())
    )
    assert without[40].item() == pytest.approx(Discriminant.of(fewer, 1.0).widths[rows[40]].item(), rel=0.2)


def test_two_or_three_classes_say_little_about_how_classes_differ() -> None:
    found = Discriminant.of(moments_of([1.0, 1.0, 2.0], 5)[0], 1.0)
    assert found.prior == MOST_PRIOR
    assert found.widths.max() < 1.2


def test_no_two_images_of_a_class_say_nothing_about_widths() -> None:
    assert prior_images(torch.zeros(3), torch.ones(3), 1.0) == MOST_PRIOR
    one = Discriminant.of(moments_of([1.0] * CLASSES, 1)[0], 1.0)
    assert torch.equal(one.widths, torch.ones_like(one.widths))


def test_without_sketches_all_classes_are_equally_wide() -> None:
    _, vectors, rows = moments_of([1.0] * 6 + [2.0] * 6, 6)
    labels = tuple(f"c{row}" for row in rows.tolist())
    found = Discriminant.of(ClassMoments.empty(DIM).observe(vectors, labels), 1.0)
    assert torch.allclose(found.widths, torch.ones_like(found.widths))
    assert torch.allclose(
        left_out_widths(found, LeftOut(vectors, rows, torch.zeros(0)), rows), found.widths[rows]
    )
