"""The ridge is found from sums alone, and what it lets expect comes true on new images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.moments import ClassMoments
from model.shrinkage import (
    COMPARED,
    DRAWN_PRIOR,
    LEAST_SHARE,
    OWN_PRIOR,
    USUAL_SHARE,
    Regularised,
    between,
    compared,
    regularised,
    ridge,
)
from tests.model.clusters import blobs

WIDTH, CLASSES, IMAGES = 200, 8, 25
LABELS = tuple("abcdefgh"[row // IMAGES] for row in range(CLASSES * IMAGES))
FOUND = {
    "where images spread": (USUAL_SHARE, DRAWN_PRIOR),
    "in channels that hardly vary": (USUAL_SHARE, OWN_PRIOR),
    "in directions that hardly vary": (LEAST_SHARE, DRAWN_PRIOR),
}
"""Where classes differ, and the shrinkage and prior of the ridge that suits it."""


def drawn(signal: str, images: int, seed: int = 0) -> Tensor:
    """[CLASSES, images, WIDTH], of classes whose means are the same whatever the seed."""
    fixed = torch.Generator().manual_seed(7)
    spread, channels = torch.linspace(3, 0.1, WIDTH), torch.arange(WIDTH)
    telling, apart = (channels < 100, 0.3) if signal == "where images spread" else (channels >= 195, 3.0)
    centres = apart * torch.randn(CLASSES, WIDTH, generator=fixed) * telling * spread
    random = torch.randn(CLASSES, images, WIDTH, generator=torch.Generator().manual_seed(seed))
    vectors = centres[:, None] + random * spread
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=fixed)).Q
    return vectors @ turn if signal == "in directions that hardly vary" else vectors


def taught(signal: str) -> ClassMoments:
    return ClassMoments.empty(WIDTH).observe(drawn(signal, IMAGES).flatten(0, 1), LABELS)


def solved(moments: ClassMoments, shrinkage: float) -> Regularised:
    return Regularised.of(moments.covariance, moments.freedom, shrinkage)


def wrong_pairs(moments: ClassMoments, found: Regularised, new: Tensor) -> float:
    """How often, over ordered pairs of classes, a new image [C, n, F] of one scores more for the other."""
    weight = found.weight(moments.means)
    scores = new.double() @ weight - 0.5 * (moments.means * weight.mT).sum(dim=1)  # [C, n, C]
    own = scores.diagonal(dim1=0, dim2=2).mT.unsqueeze(2)
    return (scores > own).double().mean(dim=1).sum().item()


@pytest.mark.parametrize("signal", FOUND)
@pytest.mark.parametrize("shrinkage", [LEAST_SHARE, 0.5, 1.0, 4.0])
def test_errors_come_as_expected(signal: str, shrinkage: float) -> None:
    moments = taught(signal)
    found = solved(moments, shrinkage)
    expected = math.exp(found.log_expected_errors(moments.means, moments.counts))
    assert wrong_pairs(moments, found, drawn(signal, 2000, seed=1)) == pytest.approx(
        expected, rel=0.2, abs=0.2
    )


@pytest.mark.parametrize("signal", FOUND)
def test_an_image_is_as_far_from_the_mean_of_its_class_as_expected(signal: str) -> None:
    moments = taught(signal)
    for shrinkage in (LEAST_SHARE, 1.0):
        found = solved(moments, shrinkage)
        off = (drawn(signal, 500, seed=1) - drawn(signal, 20000, seed=2).mean(dim=1, keepdim=True)).double()
        lengths = torch.linalg.solve_triangular(found.cholesky, off.flatten(0, 1).mT, upper=False)
        assert lengths.square().sum(dim=0).mean().item() == pytest.approx(found.error, rel=0.1)


@pytest.mark.parametrize("signal", FOUND)
def test_what_is_found_is_nearly_the_best_and_differs_by_the_images(signal: str) -> None:
    moments, new = taught(signal), drawn(signal, 2000, seed=1)
    shares = [2.0**power for power in range(-3, 1)]
    measured = {share: wrong_pairs(moments, solved(moments, share), new) for share in shares}
    found = regularised(moments)
    assert wrong_pairs(moments, found, new) < 1.05 * min(measured.values())
    torch.testing.assert_close(found.ridge, ridge(moments.covariance, moments.freedom, *FOUND[signal]))


def test_any_order_and_any_split_give_the_same_ridge() -> None:
    signal = "in directions that hardly vary"
    at_once, streamed = taught(signal), ClassMoments.empty(WIDTH)
    vectors = drawn(signal, IMAGES).flatten(0, 1)
    for rows in torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1)).split(7):
        streamed = streamed.observe(vectors[rows], tuple(LABELS[row] for row in rows))
    torch.testing.assert_close(regularised(streamed).ridge, regularised(at_once).ridge)


def test_of_very_many_classes_the_same_ones_are_compared_in_any_order() -> None:
    labels = [f"class {number:05}" for number in range(3 * COMPARED)]
    backwards = labels[::-1]
    rows = compared(labels)
    assert [backwards[row] for row in compared(backwards)] == [labels[row] for row in rows]
    assert len(rows) == COMPARED
    assert compared(["b", "a", "c"]) == [1, 0, 2]


def test_one_that_is_given_is_taken() -> None:
    moments = taught("where images spread")
    added = ridge(moments.covariance, moments.freedom, 3.0)
    torch.testing.assert_close(regularised(moments, 3.0).ridge, added)


def test_of_one_image_a_class_what_varies_most_counts_least() -> None:
    """Images differ along one direction, as by their light, more than all classes do in the others."""
    classes, width = 60, 64
    random = torch.Generator().manual_seed(0)
    spread = torch.full((width,), 0.5)
    spread[0] = 20.0
    centres = 1.5 * torch.randn(classes, width, generator=random)
    taught, asked = (centres + torch.randn(classes, width, generator=random) * spread for _ in range(2))
    moments = ClassMoments.empty(width).observe(taught, tuple(f"c{row:02}" for row in range(classes)))
    weight, rows = regularised(moments).weight(moments.means), torch.arange(classes)
    scores = asked.double() @ weight - 0.5 * (moments.means * weight.mT).sum(dim=1)
    nearest = torch.cdist(asked.double(), moments.means).argmin(dim=1)
    assert (nearest == rows).float().mean() < 0.5
    assert (scores.argmax(dim=1) == rows).float().mean() > 0.6


@pytest.mark.parametrize(("pairs", "told"), [(0, False), (10, False), (25, True)])
def test_a_few_second_images_tell_what_varies_within_however_many_classes_there_are(
    pairs: int, told: bool
) -> None:
    classes, random = 300, torch.Generator().manual_seed(0)
    labels = (*range(classes), *range(pairs))
    vectors = torch.randn(len(labels), 16, generator=random)
    moments = ClassMoments.empty(16).observe(vectors, tuple(map(str, labels)))
    of_means = between(moments.means, USUAL_SHARE)
    assert torch.equal(regularised(moments).cholesky, of_means.cholesky) != told


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.empty(0, 16), ()),
        (torch.ones(1, 16), ("only",)),
        (blobs()[0][:4], ("a", "b", "c", "d")),
        (torch.ones(40, 16), ("a", "b") * 20),
        (torch.eye(16).repeat(10, 1), tuple("abcdefghijklmnop") * 10),
    ],
    ids=["nothing", "one image", "an image a class", "all the same image", "copies of one image a class"],
)
def test_where_nothing_tells_it_is_still_solved(images: Tensor, labels: tuple[str, ...]) -> None:
    found = regularised(ClassMoments.empty(16).observe(images, labels))
    assert found.cholesky.isfinite().all()
    assert found.error >= 0
