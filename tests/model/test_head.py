"""The streaming head: exact in any order and any split."""

from __future__ import annotations

import torch

from model.head import Discriminant
from model.moments import ClassMoments, label_rows
from model.shrinkage import ridge
from tests.model.clusters import blobs


def solved(moments: ClassMoments) -> tuple[torch.Tensor, torch.Tensor]:
    head = Discriminant.of(moments, shrinkage=0.1).head()
    return head.weight, head.bias


def columns_by_label(moments: ClassMoments) -> dict[str, torch.Tensor]:
    """Weight and bias of each class, [F + 1]."""
    weight, bias = solved(moments)
    return dict(zip(moments.labels, torch.cat([weight, bias[None]]).T, strict=True))


def test_any_order_and_any_split_give_the_same_head() -> None:
    vectors, labels = blobs()
    at_once = columns_by_label(ClassMoments.empty(16).observe(vectors, labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    streamed = ClassMoments.empty(16)
    for chunk in order.split(7):
        streamed = streamed.observe(vectors[chunk], tuple(labels[i] for i in chunk))
    for label, column in columns_by_label(streamed).items():
        torch.testing.assert_close(column, at_once[label], rtol=1e-4, atol=1e-4)


def test_the_head_is_the_bayes_classifier_of_gaussians_with_one_covariance() -> None:
    vectors, labels = blobs()
    moments = ClassMoments.empty(16).observe(vectors, labels)
    weight, bias = solved(moments)
    covariance = moments.covariance + ridge(moments.covariance, moments.freedom, 0.1).diag()
    density = torch.distributions.MultivariateNormal
    likelihood = torch.stack(
        [density(mean.float(), covariance.float()).log_prob(vectors) for mean in moments.means], dim=1
    )
    expected = likelihood.log_softmax(dim=1)
    torch.testing.assert_close((vectors @ weight + bias).log_softmax(dim=1), expected, rtol=1e-3, atol=1e-3)
    assert (expected.argmax(dim=1) == label_rows(labels, moments.labels)).float().mean() > 0.95


def test_a_class_counts_the_same_however_many_images_it_brought() -> None:
    vectors, labels = blobs()
    once = ClassMoments.empty(16).observe(vectors, labels)
    rows = torch.tensor([i for i, label in enumerate(labels) if label == "class 0"] * 9)
    skewed = once.observe(vectors[rows], ("class 0",) * len(rows))
    torch.testing.assert_close(skewed.means, once.means, rtol=1e-4, atol=1e-4)
    weight, bias = solved(skewed)
    others = torch.tensor([i for i, label in enumerate(labels) if label != "class 0"])
    answers = (vectors[others] @ weight + bias).argmax(dim=1)
    assert (answers == 0).float().mean() < 0.02


def test_a_class_of_few_images_is_answered_beside_classes_of_many() -> None:
    """Its mean is known less well, which makes its own new images seem further from it than they are."""
    random = torch.Generator().manual_seed(0)
    centres = 0.3 * torch.randn(10, 128, generator=random)
    taught = [100] * 8 + [3] * 2
    drawn = [
        centre + torch.randn(images, 128, generator=random)
        for centre, images in zip(centres, taught, strict=True)
    ]
    labels = tuple(f"class {row}" for row, images in enumerate(taught) for _ in range(images))
    found = Discriminant.of(ClassMoments.empty(128).observe(torch.cat(drawn), labels), shrinkage=0.1)
    new = centres[:, None] + torch.randn(10, 200, 128, generator=random)  # [C, n, F]
    right = {
        name: (new @ weight + bias).argmax(dim=2) == torch.arange(10)[:, None]
        for name, weight, bias in (
            ("allowed", found.head().weight, found.head().bias),
            ("plain", found.weight.float(), found.bias.float()),
        )
    }
    few = {name: hits[8:].float().mean() for name, hits in right.items()}
    many = {name: hits[:8].float().mean() for name, hits in right.items()}
    assert few["allowed"] > few["plain"] + 0.3
    assert many["allowed"] > many["plain"] - 0.03


def test_with_few_images_it_is_right_about_as_often_as_with_the_covariance_they_come_from() -> None:
    """More channels than images: what the covariance has by chance must not answer."""
    random = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.5, 2, 256)
    centres = 0.5 * spread * torch.randn(10, 256, generator=random)
    taught = centres.repeat_interleave(5, 0) + spread * torch.randn(50, 256, generator=random)
    moments = ClassMoments.empty(256).observe(taught, tuple("abcdefghij"[row // 5] for row in range(50)))
    new = centres[:, None] + spread * torch.randn(10, 200, 256, generator=random)

    def right(weight: torch.Tensor, bias: torch.Tensor) -> float:
        return ((new @ weight + bias).argmax(dim=2) == torch.arange(10)[:, None]).float().mean().item()

    ideal = (moments.means / spread.square()).float()
    head = Discriminant.of(moments, 1.0).head()
    assert (
        right(head.weight, head.bias) > right(ideal.mT, -0.5 * (ideal * moments.means).sum(1).float()) - 0.02
    )


def test_no_class_yet_is_no_column_and_one_image_is_a_class() -> None:
    weight, bias = solved(ClassMoments.empty(16))
    assert weight.shape == (16, 0)
    assert bias.shape == (0,)
    alone = ClassMoments.empty(16).observe(torch.ones(1, 16), ("only",))
    assert all(torch.isfinite(part).all() for part in solved(alone))


def test_images_that_are_all_alike_are_solved_however_small_the_shrinkage() -> None:
    width = 600
    vectors = torch.nn.functional.normalize(torch.randn(4, width, generator=torch.Generator().manual_seed(0)))
    moments = ClassMoments.empty(width).observe(vectors.repeat(50, 1), ("a", "b", "c", "d") * 50)
    head = Discriminant.of(moments, 1e-12).head()
    assert head.logits(vectors).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_classes_that_are_nearly_the_same_are_told_apart_in_float32() -> None:
    """Pictures of one scene: what they share is a thousand times what tells them apart."""
    generator = torch.Generator().manual_seed(0)
    scene, centres = torch.randn(1, 64, generator=generator), 1e-3 * torch.randn(4, 64, generator=generator)
    vectors = scene + centres.repeat_interleave(20, 0) + 3e-4 * torch.randn(80, 64, generator=generator)
    vectors = torch.nn.functional.normalize(vectors)
    moments = ClassMoments.empty(64).observe(vectors, tuple("abcd"[row // 20] for row in range(80)))
    found = Discriminant.of(moments, shrinkage=0.3)
    exact = (vectors.double() @ found.weight + found.bias).log_softmax(dim=1)
    served = found.head().logits(vectors).log_softmax(dim=1)
    torch.testing.assert_close(served.double(), exact, rtol=1e-3, atol=1e-3)
