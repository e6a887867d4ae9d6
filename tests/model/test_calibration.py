"""Scores are as sure as images left out of the head say it may be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.calibration import PULL, Sharpness, assumed_sharpness, fit_sharpness, fitted_ratio
from model.head import Discriminant, Head
from model.left_out import MOST, LeftOut
from model.moments import ClassMoments, label_rows

SHRINKAGE = 0.1
CLASSES, DIM, SKETCH = 5, 24, 8


def images(per_class: int, seed: int) -> tuple[Tensor, tuple[str, ...]]:
    """Clusters that overlap: vectors [n, d] and their labels; the same centres whatever the seed."""
    centres = 0.6 * torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(CLASSES * per_class, DIM, generator=torch.Generator().manual_seed(seed))
    return centres.repeat_interleave(per_class, dim=0) + noise, tuple(
        f"class {i}" for i in range(CLASSES) for _ in range(per_class)
    )


def learned(vectors: Tensor, labels: tuple[str, ...]) -> tuple[ClassMoments, Tensor]:
    moments = ClassMoments.empty(DIM, SKETCH).observe(vectors, labels)
    return moments, label_rows(labels, moments.labels)


def solved(moments: ClassMoments) -> Discriminant:
    return Discriminant.of(moments, SHRINKAGE)


def fit(moments: ClassMoments, vectors: Tensor, rows: Tensor) -> Sharpness:
    found = solved(moments)
    return fit_sharpness(found, LeftOut.of(found, vectors, rows))


def sharpened(found: Discriminant, said: Sharpness) -> Head:
    return found.head(said.ratio * assumed_sharpness(found.moments.means, found.weight))


@pytest.mark.parametrize("per_class", [12, 100])
def test_scores_are_as_sure_as_answers_to_new_images_are_right(per_class: int) -> None:
    vectors, labels = images(per_class, seed=1)
    moments, rows = learned(vectors, labels)
    head = sharpened(solved(moments), fit(moments, vectors, rows))
    unseen, names = images(400, seed=2)
    sure, answers = head.logits(unseen).softmax(dim=1).max(dim=1)
    right = (answers == label_rows(names, moments.labels)).float().mean().item()
    assert sure.mean().item() == pytest.approx(right, abs=0.1)


def test_covariances_of_classes_own_are_judged_too() -> None:
    """By the linear part alone, scores would be off: what an image gains by a covariance is a share of all it has."""
    random, per_class = torch.Generator().manual_seed(0), 300
    centres = 1.5 * torch.randn(CLASSES, 1, DIM, generator=random)
    axes = torch.randn(CLASSES, DIM, DIM, generator=random)
    vectors = centres + torch.randn(CLASSES, 2 * per_class, DIM, generator=random) @ axes
    taught, asked = vectors[:, :per_class].flatten(0, 1), vectors[:, per_class:].flatten(0, 1)
    moments, rows = learned(taught, tuple(f"class {i}" for i in range(CLASSES) for _ in range(per_class)))
    whole, off = solved(moments), {}
    for judged in (whole, replace(whole, covariances=None)):
        head = sharpened(whole, fit_sharpness(judged, LeftOut.of(judged, taught, rows)))
        sure, answers = head.logits_of_many(asked).softmax(dim=1).max(dim=1)
        off[judged is whole] = (sure.mean() - (answers == rows).float().mean()).abs().item()
    assert off[True] < 0.03 < off[False]


def test_many_classes_of_two_images_each_are_as_sure_as_they_are_right() -> None:
    classes, random = 150, torch.Generator().manual_seed(0)
    centres = torch.randn(classes, 1, 64, generator=random)
    vectors = centres + 0.5 * torch.randn(classes, 12, 64, generator=random)
    labels = tuple(f"c{row}" for row in range(classes) for _ in range(2))
    taught, asked = vectors[:, :2].flatten(0, 1), vectors[:, 2:].flatten(0, 1)
    moments, rows = ClassMoments.empty(64, SKETCH).observe(taught, labels), label_rows(labels, labels[::2])
    head = sharpened(solved(moments), fit(moments, taught, rows))
    sure, answers = head.logits_of_many(asked).softmax(dim=1).max(dim=1)
    right = (answers == rows[::2].repeat_interleave(10)).float().mean().item()
    assert right > 0.9
    assert sure.mean().item() == pytest.approx(right, abs=0.05)


def test_one_large_class_does_not_speak_for_many_of_one_image() -> None:
    vectors, _ = images(60, seed=1)
    labels = (*["large"] * 60, *(f"c{row}" for row in range(20)))
    moments, rows = learned(vectors[: len(labels)], labels)
    assert fit(moments, vectors[: len(labels)], rows) == Sharpness()


@pytest.mark.parametrize("few", [3, 12])
def test_what_few_images_said_holds_for_the_head_of_many(few: int) -> None:
    """Logits shrink as images come: the factor of few, kept as it was, would be far off."""
    (vectors, labels), (more, _) = images(few, seed=1), images(60, seed=3)
    moments, rows = learned(vectors, labels)
    said, then = fit(moments, vectors, rows), solved(moments)
    later = solved(moments.observe(more, images(60, seed=3)[1]))
    unseen, names = images(400, seed=2)
    truth = label_rows(names, moments.labels)
    best = fitted_ratio(later.head().logits(unseen).double(), truth)
    kept = said.ratio * assumed_sharpness(then.moments.means, then.weight)
    assert abs(math.log(sharpened(later, said).sharpness / best)) < 0.5 * abs(math.log(kept / best))


def test_scores_stay_as_sure_when_classes_come_that_lie_far_away() -> None:
    """They are easily told from all before, which tells nothing about those."""
    vectors, labels = images(per_class=30, seed=1)
    moments, rows = learned(vectors, labels)
    said = fit(moments, vectors, rows)
    unseen, _ = images(400, seed=2)
    before = sharpened(solved(moments), said).logits(unseen).softmax(dim=1).amax(dim=1).mean().item()
    far, names = images(per_class=30, seed=3)
    later = solved(moments.observe(40 + far, tuple(f"far {label}" for label in names)))
    after = sharpened(later, said).logits(unseen).softmax(dim=1).amax(dim=1).mean().item()
    assert after == pytest.approx(before, abs=0.1)


def test_no_ratio_beside_the_fitted_one_is_likelier() -> None:
    logits = torch.randn(200, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.where(torch.arange(200) % 3 > 0, logits.argmax(dim=1), 0)

    def unlikely(ratio: float) -> float:
        losses = F.cross_entropy(ratio * logits, targets, reduction="none")
        told = torch.stack([losses[targets == row].mean() for row in range(CLASSES)]).mean().item()
        return len(targets) * told + PULL / 2 * math.log(ratio) ** 2

    found = fitted_ratio(logits, targets)
    assert all(
        unlikely(other) > unlikely(found) for other in (found / 1.01, found * 1.01, found / 2, found * 2)
    )


def test_a_class_of_many_images_does_not_speak_for_those_of_few() -> None:
    """Of a long tail the head would else be as sure of every image as of those that it was taught most of."""
    random = torch.Generator().manual_seed(0)
    targets = torch.arange(CLASSES).repeat(40)
    logits = torch.randn(len(targets), CLASSES, generator=random, dtype=torch.float64)
    logits[targets == 0, 0] += 6  # always right, while the others are guessed
    alike = fitted_ratio(logits, targets)
    more = torch.cat([torch.arange(len(targets)), (targets == 0).nonzero().squeeze(1).repeat(20)])
    assert fitted_ratio(logits[more], targets[more]) == pytest.approx(alike, rel=0.1)


def test_a_handful_of_images_all_right_or_all_wrong_ask_for_no_extreme() -> None:
    logits = torch.eye(CLASSES, dtype=torch.float64)
    assert 1 < fitted_ratio(logits, torch.arange(CLASSES)) < 3
    assert 1 / 3 < fitted_ratio(logits, torch.arange(CLASSES).roll(1)) < 1
    assert fitted_ratio(torch.ones_like(logits), torch.arange(CLASSES)) == pytest.approx(1, rel=0.01)


def test_a_few_images_that_nobody_can_tell_make_not_everybody_unsure() -> None:
    vectors, labels = images(per_class=100, seed=1)
    moments, rows = learned(vectors, labels)
    before = fit(moments, vectors, rows)
    strange = torch.randn(12, DIM, generator=torch.Generator().manual_seed(5))
    names = ("odd", "even") * 6
    more = moments.observe(strange, names)
    few = fit(more, strange, label_rows(names, more.labels))
    assert few.ratio < 0.5 * before.ratio
    both = before.pooled(few)
    assert both.ratio == pytest.approx(before.ratio, rel=0.1)
    assert both.weight == before.weight + few.weight
    assert few.pooled(before).ratio == pytest.approx(both.ratio)


def test_what_heads_of_few_images_were_judged_by_fades() -> None:
    early, late = Sharpness(0.01, weight=50 * 50), Sharpness(1.0, weight=50 * 450)
    assert early.pooled(late).ratio == pytest.approx(0.01**0.1)


def test_images_alone_in_their_class_say_nothing_once_other_classes_did() -> None:
    vectors, labels = images(per_class=1, seed=1)
    more = (
        ClassMoments.empty(DIM, SKETCH).observe(*images(per_class=12, seed=2)).observe(vectors[:1], ("new",))
    )
    alone = fit(more, vectors[:1], label_rows(("new",), more.labels))
    assert Sharpness(0.3, weight=9).pooled(alone) == Sharpness(0.3, weight=9)
    assert alone == Sharpness()
    assert fit(more, vectors, label_rows(("new", *labels[1:]), more.labels)).weight == 4 * 61


@pytest.mark.parametrize("known", [2, CLASSES])
@pytest.mark.parametrize("per_class", [1, 2])
def test_a_class_of_an_image_or_two_is_taken_as_neither_certain_nor_idle(known: int, per_class: int) -> None:
    vectors, labels = (part[: known * per_class] for part in images(per_class, seed=1))
    moments, rows = learned(vectors, labels)
    head = sharpened(solved(moments), fit(moments, vectors, rows))
    unseen, names = (part[: known * 400] for part in images(400, seed=2))
    sure, answers = head.logits(unseen).softmax(dim=1).max(dim=1)
    right = (answers == label_rows(names, moments.labels)).float().mean().item()
    assert sure.mean().item() == pytest.approx(right, abs=0.2)
    between = head.logits(moments.means[:2].float().mean(dim=0, keepdim=True)).softmax(dim=1)[0]
    assert between[0].item() == pytest.approx(between[1].item(), abs=0.01)


@pytest.mark.parametrize("per_class", [1, 20])
def test_a_class_alone_is_certain_and_says_nothing_of_others(per_class: int) -> None:
    vectors, labels = (part[:per_class] for part in images(per_class, seed=1))
    moments, rows = learned(vectors, labels)
    assert fit(moments, vectors, rows) == Sharpness()


def test_no_order_of_images_keeps_a_class_from_being_judged() -> None:
    vectors, labels = images(per_class=MOST, seed=1)
    vectors[MOST:] += 2 * vectors[MOST:].roll(1, dims=0)  # all but the first class are hard to tell
    moments, rows = learned(vectors, labels)
    in_turns = torch.arange(len(rows)).view(CLASSES, MOST).T.flatten()
    factor = fit(moments, vectors, rows).ratio
    assert fit(moments, vectors[in_turns], rows[in_turns]).ratio == pytest.approx(factor, rel=0.5)


@pytest.mark.parametrize("per_class", [2, 3])
def test_images_that_are_all_alike_leave_the_scores_finite(per_class: int) -> None:
    vectors, labels = images(per_class, seed=1)
    for same in (vectors[:1].expand_as(vectors), vectors[::per_class].repeat_interleave(per_class, dim=0)):
        moments, rows = learned(same, labels)
        head = sharpened(solved(moments), fit(moments, same, rows))
        assert torch.isfinite(head.logits(same).softmax(dim=1)).all()


def test_classes_taught_the_same_image_are_told_apart_by_nothing() -> None:
    vectors, _ = images(1, seed=1)
    same = vectors[:1].repeat(6, 1)
    moments, rows = learned(same, ("a", "b") * 3)
    assert fit(moments, same, rows) == Sharpness()
    assert sharpened(solved(moments), Sharpness()).sharpness == 1
