"""What is kept of images: sums that describe classes, move with them, and let them go."""

from __future__ import annotations

import pytest
import torch

from model.moments import ClassMoments, fit_drift
from tests.model.clusters import blobs


def test_labels_may_recur_and_must_match_in_number() -> None:
    vectors, labels = blobs()
    twice = ClassMoments.empty(16).observe(vectors, labels).observe(vectors, labels)
    assert twice.labels == tuple(f"class {i}" for i in range(5))
    assert twice.counts.tolist() == [80] * 5
    with pytest.raises(ValueError, match="3 labels for 2 vectors"):
        twice.observe(vectors[:2], labels[:3])


def test_forgetting_a_class_removes_its_column_and_not_the_shared_covariance() -> None:
    vectors, labels = blobs()
    moments = ClassMoments.empty(16).observe(vectors, labels)
    less = moments.without(frozenset({"class 3"}))
    assert less.labels == ("class 0", "class 1", "class 2", "class 4")
    torch.testing.assert_close(less.covariance, moments.covariance, rtol=1e-4, atol=1e-4)
    again = less.observe(vectors[120:160], labels[120:160])
    torch.testing.assert_close(again.covariance, moments.covariance, rtol=0, atol=0.2)


def test_two_classes_merged_are_as_if_they_had_come_as_one() -> None:
    vectors, labels = blobs()
    apart = ClassMoments.empty(16, sketch=3).observe(vectors, labels)
    as_one = tuple("class 4" if label == "class 1" else label for label in labels)
    together = ClassMoments.empty(16, sketch=3).observe(vectors, as_one)
    merged = apart.merged("class 1", "class 4")
    order = [merged.labels.index(label) for label in together.labels]
    torch.testing.assert_close(merged.means[order], together.means)
    torch.testing.assert_close(merged.scatter[order], together.scatter, rtol=1e-4, atol=1e-3)
    assert merged.counts[order].tolist() == [40, 80, 40, 40]
    torch.testing.assert_close(merged.covariance, together.covariance)
    assert apart.counts.tolist() == [40] * 5, "what it was made of stays as it is"
    with pytest.raises(ValueError, match="not in tuple"):
        apart.merged("class 9", "class 4")


def test_another_name_stands_at_the_same_place() -> None:
    vectors, labels = blobs()
    moments = ClassMoments.empty(16).observe(vectors, labels)
    named = moments.renamed("class 1", "first")
    assert named.labels == ("class 0", "first", "class 2", "class 3", "class 4")
    assert torch.equal(named.sums, moments.sums)


def test_moments_describe_the_classes() -> None:
    vectors, labels = blobs(per_class=400)
    moments = ClassMoments.empty(16).observe(vectors, labels)
    torch.testing.assert_close(moments.means[0].float(), vectors[:400].mean(dim=0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(moments.covariance.float(), torch.eye(16), rtol=0, atol=0.15)


def test_means_can_be_moved_without_the_covariance() -> None:
    vectors, labels = blobs()
    moments = ClassMoments.empty(16).observe(vectors, labels)
    moved = torch.randn(5, 16, generator=torch.Generator().manual_seed(1)).double()
    shifted = moments.shifted(moved)
    torch.testing.assert_close(shifted.means, moments.means + moved)
    torch.testing.assert_close(shifted.covariance, moments.covariance)
    there = ClassMoments.empty(16).observe(vectors + moved.float().repeat_interleave(40, dim=0), labels)
    torch.testing.assert_close(shifted.gram, there.gram, rtol=1e-3, atol=1e-3)


def test_a_linear_drift_is_found() -> None:
    vectors, _ = blobs(per_class=200)
    generator = torch.Generator().manual_seed(1)
    true = torch.eye(16) + 0.2 * torch.randn(16, 16, generator=generator)
    drift = fit_drift(vectors, vectors @ true, ridge=1e-6)
    torch.testing.assert_close(drift, true, rtol=1e-3, atol=1e-3)


def test_a_drift_map_is_the_regularised_least_squares_of_its_equation() -> None:
    vectors, _ = blobs()
    after = vectors @ torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    root = (0.5 * vectors.square().sum(dim=0).mean()).sqrt() * torch.eye(16)
    expected = torch.linalg.lstsq(torch.cat([vectors, root]), torch.cat([after, root])).solution
    torch.testing.assert_close(fit_drift(vectors, after, ridge=0.5), expected, rtol=1e-3, atol=1e-3)


def test_no_drift_is_the_identity_also_where_the_task_saw_nothing() -> None:
    vectors, _ = blobs()
    torch.testing.assert_close(fit_drift(vectors[:3], vectors[:3], ridge=0.01), torch.eye(16))
