"""Each class spreads in its own way, told by a sketch of few numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from model.covariances import CLOSEST, DIRECTIONS, HALF_TRUSTED, ClassCovariances, low_rank
from model.head import IMAGES_AT_ONCE, Discriminant, Head
from model.moments import ClassMoments, label_rows, probes
from model.shrinkage import ridge

SHRINKAGE = 0.1
PER_CLASS = 60


def stretched(
    classes: int, dim: int, per_class: int = PER_CLASS, apart: float = 1.0
) -> tuple[Tensor, tuple[str, ...]]:
    """Vectors [n, d] of classes that are four times as wide along one axis each, and their labels."""
    random = torch.Generator().manual_seed(0)
    widths = 1 + 3 * torch.eye(dim)[torch.arange(classes) % dim]
    centres = apart * torch.randn(classes, dim, generator=random)
    noise = torch.randn(classes, per_class, dim, generator=random)
    vectors = centres[:, None] + widths[:, None] * noise
    return vectors.flatten(0, 1), tuple(f"class {i}" for i in range(classes) for _ in range(per_class))


def observed(vectors: Tensor, labels: tuple[str, ...], sketch: int) -> ClassMoments:
    return ClassMoments.empty(vectors.shape[1], sketch).observe(vectors, labels)


def head(moments: ClassMoments) -> Head:
    return Discriminant.of(moments, SHRINKAGE).head()


def covariances(moments: ClassMoments) -> ClassCovariances:
    found = head(moments).covariances
    assert found is not None
    return found


def volumes(moments: ClassMoments) -> Tensor:
    """[C], what classes pay for their covariances."""
    return Discriminant.of(moments, SHRINKAGE).volumes


def test_a_sketch_of_more_columns_than_its_rank_holds_all_of_a_matrix() -> None:
    root = torch.randn(3, 5, 40, generator=torch.Generator().manual_seed(0))
    whole = root.mT @ root  # [3, 40, 40] of rank 5
    sketch = whole @ probes(40, 8).float()
    roots = low_rank(probes(40, 8).float().mT @ sketch, sketch.mT)
    assert roots.shape == (3, 8, 40)
    torch.testing.assert_close(roots.mT @ roots, whole, rtol=1e-2, atol=1e-2)


def test_it_is_the_bayes_classifier_of_gaussians_with_covariances_of_their_own() -> None:
    """Where the sketch holds everything and every class is among the closest."""
    vectors, labels = stretched(classes=5, dim=DIRECTIONS)
    moments = observed(vectors, labels, sketch=DIRECTIONS)
    covariance = moments.covariance + ridge(moments.covariance, moments.freedom, SHRINKAGE).diag()
    share, lower = PER_CLASS / (PER_CLASS + HALF_TRUSTED), torch.linalg.cholesky(covariance)
    likelihood = []
    for own, mean in zip(vectors.double().split(PER_CLASS), moments.means, strict=True):
        whitened = torch.linalg.solve_triangular(lower, own.mT, upper=False).cov()
        spread, axes = torch.linalg.eigh(whitened)
        beyond = lower @ axes @ torch.diag((spread - 1).clamp_min(0)) @ axes.mT @ lower.mT
        density = MultivariateNormal(mean, covariance + share * beyond)
        likelihood.append(density.log_prob(vectors.double()))
    expected = torch.stack(likelihood, dim=1).log_softmax(dim=1).float()
    torch.testing.assert_close(head(moments).logits(vectors).log_softmax(dim=1), expected, rtol=0, atol=2e-3)


def test_classes_that_spread_differently_are_told_apart_better() -> None:
    vectors, labels = stretched(classes=20, dim=40, per_class=200, apart=0.3)
    taught = torch.arange(len(labels)) % 2 == 0
    names = tuple(label for label, known in zip(labels, taught.tolist(), strict=True) if known)
    right = {}
    for sketch in (0, 16):
        moments = observed(vectors[taught], names, sketch)
        answers = head(moments).logits(vectors[~taught]).argmax(dim=1)
        right[sketch] = (answers == label_rows(names, moments.labels)).float().mean().item()
    assert right[16] > right[0] + 0.02


def test_classes_that_spread_alike_are_told_apart_as_well_as_by_one_covariance() -> None:
    """With many images a class, whose shared directions of spread are more than those that are kept."""
    random, classes, dim, per_class = torch.Generator().manual_seed(0), 2, 96, 1500
    widths = torch.logspace(0, -2, dim)
    centres = 0.12 * widths * torch.randn(classes, 1, dim, generator=random)
    vectors = (centres + widths * torch.randn(classes, 2 * per_class, dim, generator=random)).unflatten(
        1, (2, -1)
    )
    taught, asked = vectors[:, 0].flatten(0, 1), vectors[:, 1].flatten(0, 1)
    rows = torch.arange(classes).repeat_interleave(per_class)
    names, right = tuple(f"class {row}" for row in rows.tolist()), {}
    for sketch in (0, 24):
        answers = head(observed(taught, names, sketch)).logits_of_many(asked).argmax(dim=1)
        right[sketch] = (answers == rows).float().mean().item()
    assert right[24] > right[0] - 0.005


def test_any_order_and_any_split_give_the_same_answers() -> None:
    vectors, labels = stretched(classes=4, dim=24)
    at_once = observed(vectors, labels, sketch=16)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    streamed = ClassMoments.empty(24, 16)
    for chunk in order.split(7):
        streamed = streamed.observe(vectors[chunk], tuple(labels[i] for i in chunk))
    columns = label_rows(at_once.labels, streamed.labels)
    torch.testing.assert_close(streamed.scatter[columns], at_once.scatter, rtol=1e-4, atol=1e-2)
    answers = head(streamed).logits(vectors)[:, columns]
    torch.testing.assert_close(answers, head(at_once).logits(vectors), rtol=1e-4, atol=1e-4)


def test_known_classes_have_their_means_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are a matrix of all classes: taken once a class, the work would grow with their square."""
    vectors, labels = stretched(classes=4, dim=24)
    moments, means, taken = observed(vectors, labels, sketch=16), ClassMoments.means, []

    def counted(self: ClassMoments) -> Tensor:
        taken.append(self)
        return means.__get__(self)

    monkeypatch.setattr(ClassMoments, "means", property(counted))
    moments.observe(vectors, labels)
    assert len(taken) == 1


@pytest.mark.parametrize(("columns", "second"), [(16, (0.153519, -0.633275)), (24, (1.011189, -0.242679))])
def test_probes_are_those_that_sketches_in_stores_were_made_with(
    columns: int, second: tuple[float, float]
) -> None:
    """Others, as another PyTorch may draw them from the same seed, would make nonsense of what stores hold."""
    found = probes(1536, columns)
    expected = torch.tensor([-2.310412, -0.373251, *second]).double()
    torch.testing.assert_close(found[:2, :2].flatten(), expected, rtol=0, atol=1e-5)


def test_an_image_alone_has_no_spread() -> None:
    vectors = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    alone = observed(vectors, ("a", "b", "c"), sketch=16)
    assert volumes(alone).tolist() == [0, 0, 0]
    assert not covariances(alone).directions.any()
    nothing = head(ClassMoments.empty(24, 16))
    assert nothing.logits(vectors).shape == (3, 0)


def test_only_the_closest_classes_are_looked_at_again() -> None:
    vectors, labels = stretched(classes=2 * CLOSEST, dim=24)
    found = head(observed(vectors, labels, sketch=16))
    linear = Head(found.weight, found.bias).logits(vectors)
    changed = found.logits(vectors) != linear
    assert changed.sum(dim=1).max() == CLOSEST
    best = linear.topk(CLOSEST, dim=1).indices
    assert changed.gather(1, best).sum() == changed.sum()


def test_a_class_not_looked_at_scores_no_more_than_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has paid for its volume already: spreading widely must not make it win where it was not even looked at."""
    vectors, labels = stretched(classes=2 * CLOSEST, dim=24, per_class=500)
    found = head(observed(vectors, labels, sketch=16))
    logits = found.logits(vectors)
    monkeypatch.setattr("model.covariances.CLOSEST", 2 * CLOSEST)
    assert (logits <= found.logits(vectors) + 1e-3).all()


def test_it_weighs_as_much_as_it_is_told() -> None:
    vectors, labels = stretched(classes=4, dim=24)
    found, logits = covariances(observed(vectors, labels, sketch=16)), torch.zeros(len(vectors), 4)
    torch.testing.assert_close(
        found.scaled(3).with_gains(vectors, logits),
        3 * found.with_gains(vectors, logits),
        rtol=1e-4,
        atol=1e-3,
    )


def test_many_images_are_scored_as_a_batch_is() -> None:
    vectors, labels = stretched(classes=4, dim=24)
    found = head(observed(vectors, labels, sketch=16))
    assert len(vectors) > IMAGES_AT_ONCE
    torch.testing.assert_close(found.logits_of_many(vectors), found.logits(vectors))


def test_what_moves_or_goes_leaves_the_spread_of_others() -> None:
    vectors, labels = stretched(classes=4, dim=24)
    moments = observed(vectors, labels, sketch=16)
    less = moments.without(frozenset({"class 1"}))
    torch.testing.assert_close(less.scatter, moments.scatter[[0, 2, 3]])
    torch.testing.assert_close(moments.shifted(torch.ones(4, 24).double()).scatter, moments.scatter)


@pytest.mark.parametrize("sketch", [0, 4])
def test_a_sketch_may_be_small_or_none(sketch: int) -> None:
    vectors, labels = stretched(classes=4, dim=24)
    found = head(observed(vectors, labels, sketch))
    assert (found.covariances is None) == (sketch == 0)
    assert found.covariances is None or found.covariances.directions.shape == (4, sketch, 24)
    assert found.logits(vectors).shape == (len(vectors), 4)
