"""An image of no class known is told from those of known ones, and false alarms are as rare as promised."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import usual
from model.familiarity import PROBED, Familiarity, unskewed
from model.head import Discriminant
from model.left_out import LeftOut
from model.moments import ClassMoments, label_rows
from model.usual import EXPECTED, Spread, Usual, measure_usual, solve_familiarity

CLASSES, DIM = 8, 96


def centres(count: int, seed: int = 0) -> Tensor:
    """In a few directions, as classes are; [n, d]."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.cat([torch.randn(count, 12, generator=generator), torch.zeros(count, DIM - 12)], dim=1)


def around(means: Tensor, per_class: int, seed: int) -> Tensor:
    noise = torch.randn(len(means) * per_class, DIM, generator=torch.Generator().manual_seed(seed))
    return means.repeat_interleave(per_class, dim=0) + noise


def solved(vectors: Tensor, per_class: int) -> tuple[Discriminant, Tensor]:
    labels = tuple(f"class {row // per_class}" for row in range(len(vectors)))
    moments = ClassMoments.empty(DIM).observe(vectors, labels)
    return Discriminant.of(moments, 1.0), label_rows(labels, moments.labels)


def taught(per_class: int = 40, classes: int = CLASSES) -> tuple[Familiarity, Discriminant]:
    vectors = around(centres(classes), per_class, seed=1)
    found, rows = solved(vectors, per_class)
    spread = Spread.of(found)
    measure = solve_familiarity(found, spread, measure_usual(found, spread, LeftOut.of(found, vectors, rows)))
    assert measure is not None
    return measure, found


def share_below(measure: Familiarity, vectors: Tensor, level: float) -> float:
    return (measure.of(vectors) < level).float().mean().item()


@pytest.mark.parametrize("per_class", [4, 40, 400])
def test_new_images_of_known_classes_are_rarely_taken_for_strange(per_class: int) -> None:
    measure, _ = taught(per_class)
    unseen = around(centres(CLASSES), 200, seed=2)
    assert share_below(measure, unseen, 0.01) < 0.05
    assert 0.01 < share_below(measure, unseen, 0.1) < 0.2


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_few_classes_do_not_make_their_own_images_strange(classes: int) -> None:
    measure, _ = taught(classes=classes)
    assert share_below(measure, around(centres(classes), 2000, seed=2), 0.01) < 0.02


@pytest.mark.parametrize("degrees", [1, 2, 8, 50])
def test_chi_square_is_about_normal_once_it_is_no_more_skewed(degrees: int) -> None:
    drawn = torch.randn(20_000, degrees, generator=torch.Generator().manual_seed(0)).square().sum(dim=1)
    skewness = torch.tensor(math.sqrt(8 / degrees))
    normal = unskewed((drawn - degrees) / math.sqrt(2 * degrees), skewness)
    for z in (1.28, 1.64, 2.33, 2.58):
        usual_share = math.erfc(z / math.sqrt(2)) / 2
        assert (normal > z).double().mean().item() == pytest.approx(usual_share, rel=0.25)


def test_images_of_another_kind_are_strange_however_sure_the_scores() -> None:
    measure, found = taught()
    elsewhere = around(torch.zeros(1, DIM), 200, seed=3)
    elsewhere[:, 12:] *= 3  # wider where classes do not differ
    assert share_below(measure, elsewhere + centres(1), 0.01) > 0.99
    assert share_below(measure, 20 * centres(CLASSES), 0.01) == 1
    scores = found.head().logits(20 * centres(CLASSES)).softmax(dim=1).amax(dim=1)
    assert scores.min() > 0.99


def test_images_between_the_classes_are_strange_too() -> None:
    """As near as others to all classes together, only not to any of them."""
    measure, _ = taught()
    other_classes = around(centres(CLASSES, seed=9), 50, seed=4)
    assert share_below(measure, other_classes, 0.01) > 0.9


@pytest.mark.parametrize("classes", [CLASSES, DIM + 20])
def test_distances_are_to_the_nearest_class_and_to_all_as_one_gaussian(classes: int) -> None:
    _, found = taught(classes=classes)
    spread, moments = Spread.of(found), found.moments
    assert spread is not None
    x = around(centres(3, seed=5), 4, seed=6).double()
    covariance = found.cholesky @ found.cholesky.mT
    off = x[:, None] - moments.means  # [n, C, d]
    squared = (off * torch.linalg.solve(covariance, off.mT).mT).sum(dim=2)
    shares = moments.counts / moments.counts.sum()
    apart = (moments.means - shares @ moments.means) * shares.sqrt().unsqueeze(1)
    whole = x - shares @ moments.means
    to_all = (whole * torch.linalg.solve(covariance + apart.mT @ apart, whole.mT).mT).sum(dim=1)
    near, relative, closest = spread.distances(squared)
    nearest = (squared - found.error / moments.counts).amin(dim=1)
    torch.testing.assert_close(near, nearest)
    assert torch.equal(closest, (squared - found.error / moments.counts).argmin(dim=1))
    torch.testing.assert_close(relative, nearest - to_all)


def test_no_matrix_grows_with_the_classes_once_there_are_more_than_channels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes, eigh = [], torch.linalg.eigh

    def noted(matrix: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(matrix))
        return eigh(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", noted)
    taught(per_class=4, classes=DIM + 20)
    assert max(sizes) <= DIM


@pytest.mark.parametrize("axes", [256, 3])
def test_what_is_served_measures_the_second_exactly_and_the_first_nearly(
    axes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where classes differ in more directions than are kept: both leave the same ones out."""
    monkeypatch.setattr(usual, "AXES", axes)
    measure, found = taught()
    x = around(centres(CLASSES), 50, seed=7)
    off = x.double()[:, None] - found.moments.means
    whitened = torch.linalg.solve_triangular(found.cholesky, off.flatten(0, 1).mT, upper=False)
    spread = Spread.of(found)
    assert spread is not None
    near, relative, nearest = spread.distances(whitened.square().sum(dim=0).reshape(off.shape[:2]))
    near, relative = near / found.widths[nearest], relative / found.widths[nearest]
    served_near, served_relative = measure.measures(x)
    torch.testing.assert_close(served_relative, relative.float(), rtol=1e-3, atol=1e-2)
    errors = served_near - near.log().float()
    assert errors.mean().abs() < 0.15
    assert 0.05 < errors.std() < 1.5 * (2 / PROBED) ** 0.5


def test_more_classes_than_axes_are_no_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "AXES", 4)
    measure, _ = taught()
    assert share_below(measure, around(centres(CLASSES), 200, seed=2), 0.05) < 0.15


def test_a_new_class_of_few_images_is_seldom_strange_beside_classes_of_many() -> None:
    means = centres(CLASSES + 1)
    vectors = torch.cat([around(means[:-1], 100, seed=1), around(means[-1:], 2, seed=8)])
    labels = tuple(f"class {row // 100}" for row in range(len(vectors)))
    moments = ClassMoments.empty(DIM).observe(vectors, labels)
    found, rows = Discriminant.of(moments, 1.0), label_rows(labels, moments.labels)
    spread = Spread.of(found)
    measure = solve_familiarity(found, spread, measure_usual(found, spread, LeftOut.of(found, vectors, rows)))
    assert measure is not None
    unseen = around(means[-1:], 400, seed=9)
    assert share_below(measure, unseen, 0.01) < 0.05
    assert share_below(replace(measure, allowances=torch.zeros(CLASSES + 1)), unseen, 0.01) > 0.1


@pytest.mark.parametrize("per_class", [6, 30])
def test_classes_stay_familiar_when_many_come_that_vary_far_less(per_class: int) -> None:
    """The shared covariance is then mostly that of the others."""
    wide, narrow = centres(CLASSES), centres(20, seed=3) + 30
    taught_first = around(wide, per_class, seed=1)
    vectors = torch.cat(
        [taught_first, narrow.repeat_interleave(40, dim=0) + 0.2 * around(0 * narrow, 40, seed=2)]
    )
    names = [f"wide {row // per_class}" for row in range(len(taught_first))]
    labels = (*names, *(f"narrow {row // 40}" for row in range(800)))
    said: list[Usual] = []
    moments = ClassMoments.empty(DIM, 24)
    for part in (slice(len(names)), slice(len(names), None)):
        moments = moments.observe(vectors[part], labels[part])
        found = Discriminant.of(moments)
        left_out = LeftOut.of(found, vectors[part], label_rows(labels[part], moments.labels))
        said.append(measure_usual(found, Spread.of(found), left_out))
    measure = solve_familiarity(found, Spread.of(found), Usual.pooled(said))
    assert measure is not None
    unseen, strange = around(wide, 100, seed=5), around(centres(CLASSES, seed=9), 50, seed=4)
    assert share_below(measure, unseen, 0.01) < 0.15
    assert share_below(replace(measure, widths=torch.ones_like(measure.widths)), unseen, 0.01) > 0.9
    assert share_below(measure, strange, 0.01) > 0.4


def test_rounding_does_not_matter_where_images_of_a_class_are_nearly_alike() -> None:
    vectors = centres(CLASSES).repeat_interleave(5, dim=0) + 1e-3 * around(torch.zeros(1, DIM), 40, seed=1)
    found, rows = solved(vectors, 5)
    spread = Spread.of(found)
    measure = solve_familiarity(found, spread, measure_usual(found, spread, LeftOut.of(found, vectors, rows)))
    assert measure is not None
    exact = Familiarity(*(part.double() for part in measure.parts().values()))
    torch.testing.assert_close(measure.of(vectors), exact.of(vectors.double()).float(), rtol=0, atol=0.05)


@pytest.mark.parametrize(("classes", "per_class"), [(1, 40), (CLASSES, 1)])
def test_nothing_is_told_of_one_class_or_of_too_few_images(classes: int, per_class: int) -> None:
    vectors = around(centres(classes), per_class, seed=1)
    found, rows = solved(vectors, per_class)
    said = measure_usual(found, Spread.of(found), LeftOut.of(found, vectors, rows))
    assert said == Usual()
    assert solve_familiarity(found, Spread.of(found), said) is None
    assert found.head().familiar(vectors).isnan().all()


@pytest.mark.parametrize("per_class", [5, 5000])
def test_images_that_are_all_alike_say_nothing(per_class: int) -> None:
    """However many: sums of many are rounded."""
    means = F.normalize(torch.randn(5, DIM, generator=torch.Generator().manual_seed(1)), dim=1)
    found, _ = solved(means.repeat_interleave(per_class, dim=0), per_class)
    assert Spread.of(found) is None


def test_tasks_are_pooled_as_if_all_their_images_had_been_measured_at_once() -> None:
    measures = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    parts = [Usual.of(part, float(len(part))) for part in measures.split([10, 50])]
    whole = Usual.of(measures, 60.0)
    pooled = Usual.pooled([*parts, Usual()])
    assert (pooled.images, pooled.weight) == (60, 60)
    assert pooled.mean == pytest.approx(whole.mean, abs=1e-6)
    assert pooled.deviation == pytest.approx(whole.deviation, abs=1e-6)


def test_few_images_are_taken_to_deviate_as_is_to_be_expected() -> None:
    """Two that are alike do not make everything else strange."""
    assert Usual.of(torch.zeros(2, 2), 2.0).deviation == pytest.approx(EXPECTED, rel=0.1)
    assert Usual.of(torch.zeros(10_000, 2), 1.0).deviation[0] < 0.02


def test_one_that_cannot_tell_answers_so() -> None:
    blank = Familiarity.untold(DIM, CLASSES)
    assert blank.fits(DIM, CLASSES)
    assert all(math.isnan(value) for value in blank.of(torch.randn(3, DIM)).tolist())


def test_parts_of_another_size_do_not_fit() -> None:
    measure, _ = taught()
    assert measure.fits(DIM, CLASSES)
    assert not measure.fits(DIM, CLASSES + 1)
    assert not measure.fits(DIM + 1, CLASSES)
    assert not replace(measure, usual=torch.ones(2, 1)).fits(DIM, CLASSES)
    assert not replace(measure, unexplained=torch.ones(3)).fits(DIM, CLASSES)
    assert not replace(measure, allowances=torch.ones(3)).fits(DIM, CLASSES)
