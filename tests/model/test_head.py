"""The streaming head: exact in any order and any split."""

from __future__ import annotations

import pytest
import torch

from model.head import fit_sharpness, project, random_projection, solve_ridge
from model.moments import ClassMoments, fit_drift, label_rows


def blobs(per_class: int = 40, classes: int = 5, dim: int = 16) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Well separated clusters: vectors [n, d] and their labels."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(classes, dim, generator=generator)
    vectors = centres.repeat_interleave(per_class, dim=0)
    vectors = vectors + torch.randn(vectors.shape, generator=generator)
    return vectors, tuple(f"class {i}" for i in range(classes) for _ in range(per_class))


def columns_by_label(moments: ClassMoments, ridge: float = 0.01) -> dict[str, torch.Tensor]:
    return dict(zip(moments.labels, solve_ridge(moments, ridge).T, strict=True))


def test_any_order_and_any_split_give_the_same_head() -> None:
    vectors, labels = blobs()
    projected = project(vectors, random_projection(16, 64, seed=0))
    at_once = columns_by_label(ClassMoments.empty(64).observe(projected, labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    streamed = ClassMoments.empty(64)
    for chunk in order.split(7):
        streamed = streamed.observe(projected[chunk], tuple(labels[i] for i in chunk))
    for label, column in columns_by_label(streamed).items():
        torch.testing.assert_close(column, at_once[label], rtol=1e-4, atol=1e-4)


def test_the_head_solves_the_ridge_regression() -> None:
    vectors, labels = blobs()
    moments = ClassMoments.empty(16).observe(vectors, labels)
    weight = solve_ridge(moments, 0.1).double()
    targets = torch.nn.functional.one_hot(label_rows(labels, moments.labels)).double()
    x, strength = vectors.double(), 0.1 * moments.gram.diagonal().mean().double()
    gradient = x.T @ (x @ weight - targets) + strength * weight
    assert gradient.abs().max() < 1e-3 * (x.T @ targets).abs().max()
    assert ((x @ weight).argmax(dim=1) == targets.argmax(dim=1)).float().mean() > 0.95


def test_no_class_yet_is_no_column() -> None:
    assert solve_ridge(ClassMoments.empty(16), 0.1).shape == (16, 0)


def test_labels_may_recur_and_must_match_in_number() -> None:
    vectors, labels = blobs()
    twice = ClassMoments.empty(16).observe(vectors, labels).observe(vectors, labels)
    assert twice.labels == tuple(f"class {i}" for i in range(5))
    assert twice.counts.tolist() == [80] * 5
    with pytest.raises(ValueError, match="3 labels for 2 vectors"):
        twice.observe(vectors[:2], labels[:3])


def test_forgetting_a_class_removes_its_column_and_leaves_the_others() -> None:
    vectors, labels = blobs()
    moments = ClassMoments.empty(16).observe(vectors, labels)
    less = columns_by_label(moments.without(frozenset({"class 3"})))
    assert "class 3" not in less
    for label, column in less.items():
        torch.testing.assert_close(column, columns_by_label(moments)[label])


def test_moments_describe_the_classes() -> None:
    vectors, labels = blobs(per_class=400)
    moments = ClassMoments.empty(16).observe(vectors, labels)
    torch.testing.assert_close(moments.means[0], vectors[:400].mean(dim=0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(moments.covariance, torch.eye(16), rtol=0, atol=0.15)


def test_drawn_vectors_have_the_moments_they_were_drawn_from() -> None:
    vectors, labels = blobs(per_class=400)
    moments = ClassMoments.empty(16).observe(vectors, labels)
    drawn, drawn_labels = moments.sample(2000, torch.Generator().manual_seed(0))
    again = ClassMoments.empty(16).observe(drawn, drawn_labels)
    torch.testing.assert_close(again.means, moments.means, rtol=0, atol=0.1)
    torch.testing.assert_close(again.covariance, moments.covariance, rtol=0, atol=0.1)


def test_a_linear_drift_is_found_and_carries_the_moments_along() -> None:
    vectors, labels = blobs(per_class=200)
    generator = torch.Generator().manual_seed(1)
    true = torch.eye(16) + 0.2 * torch.randn(16, 16, generator=generator)
    drift = fit_drift(vectors, vectors @ true, ridge=1e-6)
    torch.testing.assert_close(drift, true, rtol=1e-3, atol=1e-3)
    carried = ClassMoments.empty(16).observe(vectors, labels).carried(drift)
    moved = ClassMoments.empty(16).observe(vectors @ true, labels)
    torch.testing.assert_close(carried.means, moved.means, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(carried.covariance, moved.covariance, rtol=2e-2, atol=2e-2)


def test_no_drift_is_the_identity_also_where_the_task_saw_nothing() -> None:
    vectors, _ = blobs()
    torch.testing.assert_close(fit_drift(vectors[:3], vectors[:3], ridge=0.01), torch.eye(16))


def test_sharpness_makes_scores_neither_timid_nor_sure_of_the_wrong() -> None:
    logits = torch.tensor([[0.6, 0.4], [0.4, 0.6], [0.55, 0.45]])
    assert fit_sharpness(logits, torch.tensor([0, 1, 0])) == 256
    assert fit_sharpness(logits, torch.tensor([1, 0, 1])) == 1
