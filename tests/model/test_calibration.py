"""Scores are as sure as images left out of the head say it may be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.calibration import MOST, fit_sharpness, left_out_logits
from model.head import Head, factorise, solve_discriminant
from model.moments import ClassMoments, label_rows

SHRINKAGE = 0.1
CLASSES, DIM = 5, 24


def images(per_class: int, seed: int) -> tuple[Tensor, tuple[str, ...]]:
    """Clusters that overlap: vectors [n, d] and their labels; the same centres whatever the seed."""
    centres = 0.6 * torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(CLASSES * per_class, DIM, generator=torch.Generator().manual_seed(seed))
    return centres.repeat_interleave(per_class, dim=0) + noise, tuple(
        f"class {i}" for i in range(CLASSES) for _ in range(per_class)
    )


def learned(vectors: Tensor, labels: tuple[str, ...]) -> tuple[ClassMoments, Tensor]:
    moments = ClassMoments.empty(DIM).observe(vectors, labels)
    return moments, label_rows(labels, moments.labels)


def fit(moments: ClassMoments, vectors: Tensor, rows: Tensor) -> float | None:
    return fit_sharpness(moments, factorise(moments, SHRINKAGE), vectors, rows)


def test_leaving_an_image_out_gives_what_solving_without_it_would() -> None:
    vectors, labels = images(per_class=6, seed=1)
    moments, rows = learned(vectors, labels)
    found = left_out_logits(moments, factorise(moments, SHRINKAGE), vectors, rows)
    shrunk = SHRINKAGE * moments.covariance.diagonal().mean() * torch.eye(DIM)
    for row in (0, 7, 29):
        others = [i for i in range(len(labels)) if i != row]
        without, _ = learned(vectors[others], tuple(labels[i] for i in others))
        covariance = without.covariance * without.freedom / moments.freedom + shrunk
        off = vectors[row].double() - without.means  # [C, d]
        distances = (off * torch.linalg.solve(covariance, off.mT).mT).sum(dim=1)
        torch.testing.assert_close(found[row].log_softmax(dim=0), (-0.5 * distances).log_softmax(dim=0))


@pytest.mark.parametrize("per_class", [12, 100])
def test_scores_are_as_sure_as_answers_to_new_images_are_right(per_class: int) -> None:
    vectors, labels = images(per_class, seed=1)
    moments, rows = learned(vectors, labels)
    cholesky = factorise(moments, SHRINKAGE)
    sharpness = fit_sharpness(moments, cholesky, vectors, rows)
    assert sharpness is not None
    head = Head(*solve_discriminant(moments, cholesky), sharpness)
    unseen, names = images(400, seed=2)
    sure, answers = head.logits(unseen).softmax(dim=1).max(dim=1)
    right = (answers == label_rows(names, moments.labels)).float().mean().item()
    assert sure.mean().item() == pytest.approx(right, abs=0.1)


def test_images_alone_in_their_class_say_nothing_once_other_classes_did() -> None:
    vectors, labels = images(per_class=1, seed=1)
    more = ClassMoments.empty(DIM).observe(*images(per_class=12, seed=2)).observe(vectors[:1], ("new",))
    assert fit(more, vectors[:1], label_rows(("new",), more.labels)) is None
    assert fit(more, vectors, label_rows(("new", *labels[1:]), more.labels)) is not None


@pytest.mark.parametrize("known", [2, CLASSES])
def test_one_image_a_class_is_taken_as_neither_certain_nor_idle(known: int) -> None:
    vectors, labels = (part[:known] for part in images(per_class=1, seed=1))
    moments, rows = learned(vectors, labels)
    sharpness = fit(moments, vectors, rows)
    assert sharpness is not None
    head = Head(*solve_discriminant(moments, factorise(moments, SHRINKAGE)), sharpness)
    taught = head.logits(vectors).softmax(dim=1).diagonal()
    assert (taught > 0.6).all()
    assert (taught < 0.99).all()
    between = head.logits(vectors[:2].mean(dim=0, keepdim=True)).softmax(dim=1)[0]
    assert between[0].item() == pytest.approx(between[1].item(), abs=0.01)


def test_a_class_alone_is_certain() -> None:
    vectors, labels = (part[:1] for part in images(per_class=1, seed=1))
    moments, rows = learned(vectors, labels)
    assert fit(moments, vectors, rows) == 1


def test_no_order_of_images_keeps_a_class_from_being_judged() -> None:
    vectors, labels = images(per_class=MOST, seed=1)
    vectors[MOST:] += 2 * vectors[MOST:].roll(1, dims=0)  # all but the first class are hard to tell
    moments, rows = learned(vectors, labels)
    in_turns = torch.arange(len(rows)).view(CLASSES, MOST).T.flatten()
    sharpness = fit(moments, vectors, rows)
    assert sharpness is not None
    assert fit(moments, vectors[in_turns], rows[in_turns]) == pytest.approx(sharpness, rel=0.5)


@pytest.mark.parametrize("per_class", [2, 3])
def test_images_that_are_all_alike_leave_the_scores_finite(per_class: int) -> None:
    vectors, labels = images(per_class, seed=1)
    for same in (vectors[:1].expand_as(vectors), vectors[::per_class].repeat_interleave(per_class, dim=0)):
        moments, rows = learned(same, labels)
        sharpness = fit(moments, same, rows)
        assert sharpness is not None
        head = Head(*solve_discriminant(moments, factorise(moments, SHRINKAGE)), sharpness)
        assert torch.isfinite(head.logits(same).softmax(dim=1)).all()


def test_classes_that_moved_were_forgotten_or_come_again_are_still_judged() -> None:
    vectors, labels = images(per_class=6, seed=1)
    moments, _ = learned(vectors, labels)
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
        found = left_out_logits(after, factorise(after, SHRINKAGE), more, rows)
        own = found.gather(1, rows.unsqueeze(1))
        assert torch.isfinite(found).all()
        assert (own <= 0).all(), "half a squared distance, negated"
