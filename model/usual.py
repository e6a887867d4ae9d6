"""How unusual images of known classes usually look, and the measure of familiarity solved from that.

Each of a task's images is measured as if it had been left out (`model.left_out`). Of both distances of
`model.familiarity` a mean and a deviation are kept with the task; pooled over tasks, they say what is usual. To stay
comparable while classes and images are added, m is taken as log(m / e), relative to its expectation, and r as r / I,
relative to the information I that features carry about the class (`Spread.information`). Both are in units of the
width of the class (`model.widths`), which stays comparable where other kinds of classes come.

Names are those of `model.familiarity`: M, B, A, b, mu and e.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from model.familiarity import PROBED, Familiarity
from model.head import Discriminant
from model.left_out import LeftOut, left_out_widths
from model.moments import probes

AXES = 256
"""Directions along class means that are kept at most, R: those in which classes differ most."""
ROUNDING = 1e-9
"""Share of what an image is off its class' mean by below which class means are apart by rounding alone."""
ALIKE = 0.1
"""An e below which images of a class differ by rounding alone. It counts the directions in which they differ."""
LEAST = 0.05
"""The least that m / e counts as. Images may repeat, and zero has no logarithm."""
EXPECTED = (0.33, 0.5)
"""Deviations of log(m / e) and r / I on photographs; they count as much as `EXPECTED_IMAGES` images measured."""
EXPECTED_IMAGES = 10


class Distances(NamedTuple):
    """Of images, [n] each. near, relative: m and r before the width divides them.  nearest: the class."""

    near: Tensor
    relative: Tensor
    nearest: Tensor


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual of images of known classes, of log(m / e) and of r / I.

    images: how many were measured.  weight: as many, times the images that the head was solved from when they were.
    mean, square: means of both measures, and of their squares.
    """

    images: int = 0
    weight: float = 0.0
    mean: tuple[float, float] = (0.0, 0.0)
    square: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, measures: Tensor, weight: float) -> Self:
        """measures: [n, 2], log(m / e) and r / I of each image; one image at least.  weight: of all of them."""
        first, second = (part.mean(dim=0).tolist() for part in (measures, measures.square()))
        return cls(len(measures), weight, (first[0], first[1]), (second[0], second[1]))

    @classmethod
    def pooled(cls, tasks: Iterable[Usual]) -> Self:
        """What all of them say, as if measured at once, by their weights."""
        told = [task for task in tasks if task.images]
        if not told:
            return cls()
        images, weight = sum(task.images for task in told), sum(task.weight for task in told)
        shares = torch.tensor([[task.weight / weight] for task in told], dtype=torch.float64)
        moments = torch.tensor([task.mean + task.square for task in told], dtype=torch.float64)
        values = (shares * moments).sum(dim=0).tolist()
        return cls(images, weight, (values[0], values[1]), (values[2], values[3]))

    @property
    def deviation(self) -> tuple[float, float]:
        """Of both measures; drawn towards `EXPECTED` where few images were measured."""
        known = self.images / (self.images + EXPECTED_IMAGES)
        first, second = (
            math.sqrt(known * max(square - mean**2, 0.0) + (1 - known) * expected**2)
            for mean, square, expected in zip(self.mean, self.square, EXPECTED, strict=True)
        )
        return first, second


@dataclass(frozen=True, slots=True)
class Spread:
    """How class means lie to each other in a discriminant's metric M^-1; C classes, R directions kept, float64.

    origin: [F], mu, the mean of all images.  shares: [C], of the images.
    apart: [C], (mu_c - mu)^T M^-1 (mu_c - mu).
    axes: [F, R], A, with A^T M A = I.
    dual: [C, R], with A = M^-1 (mu_1 - mu, ..) dual: takes products with class means to coordinates along the axes.
    centres: [C, R], A^T (mu_c - mu).  variances: [R], b, of class means along each axis: A^T B A = diag(b).
    allowances: [C], e / n_c.
    """

    origin: Tensor
    shares: Tensor
    apart: Tensor
    axes: Tensor
    dual: Tensor
    centres: Tensor
    variances: Tensor
    allowances: Tensor

    @classmethod
    def of(cls, discriminant: Discriminant) -> Self | None:
        """None where no class lies apart from another."""
        moments = discriminant.moments
        if len(moments.labels) < 2:
            return None
        shares = moments.counts / moments.counts.sum()
        origin, centre = shares @ moments.means, discriminant.weight @ shares
        weight, means = discriminant.weight - centre.unsqueeze(1), moments.means - origin  # [F, C], [C, F]
        variances, rotation = widest(discriminant.cholesky, means, weight, shares.sqrt())
        real = variances > ROUNDING * max(variances[-1].item(), discriminant.error)
        if discriminant.error < ALIKE or not real.any():  # images that are all the same, or classes that are
            return None
        variances = variances[real]
        dual = shares.sqrt().unsqueeze(1) * rotation[:, real] / variances.sqrt()
        axes, apart = weight @ dual, (means * weight.mT).sum(dim=1)
        allowances = discriminant.error / moments.counts
        return cls(origin, shares, apart, axes, dual, means @ axes, variances, allowances)

    @property
    def information(self) -> float:
        """I, the sum of log(1 + b): twice what features tell about the class, in nats, were all Gaussian."""
        return self.variances.log1p().sum().item()

    def distances(self, squared: Tensor) -> Distances:
        """Of n images, from their squared distances to all class means [n, C].

        Those give the length from mu, and with it all products with class means, and these what lies along A.
        """
        length = squared @ self.shares - self.shares @ self.apart  # [n], squared, from the origin
        products = (length.unsqueeze(1) + self.apart - squared) / 2  # [n, C], (mu_c - mu)^T M^-1 (x - mu)
        along = products @ self.dual  # [n, R], A^T (x - mu)
        lengths = self.centres.square().sum(dim=1) - self.allowances
        # By how much the nearest class is nearer than the origin: below 0 for most images of a class known.
        nearer, nearest = (lengths - 2 * along @ self.centres.mT).min(dim=1)
        explained = self.variances / (1 + self.variances)
        return Distances(length + nearer, nearer + along.square() @ explained, nearest)


def widest(cholesky: Tensor, means: Tensor, weight: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """How class means vary in the `AXES` directions where they do most, and how each of these mixes the classes.

    The largest eigenvalues [R], ascending, of W^T W and its eigenvectors [C, R], for the whitened means
    W = L^-1 M^T diag(root).

    cholesky: [F, F], L.  means: [C, F], M, from the mean of all images.  weight: [F, C], (L L^T)^-1 M^T.
    root: [C], of the shares of the images.
    """
    if len(means) <= len(cholesky):
        products = means @ weight  # [C, C]
        variances, mixed = torch.linalg.eigh(root.unsqueeze(1) * (products + products.mT) / 2 * root)
        return variances[-AXES:], mixed[:, -AXES:]
    # Of more classes than channels W W^T is the smaller: the same eigenvalues, and no time that grows with C^3.
    whitened = torch.linalg.solve_triangular(cholesky, means.mT * root, upper=False)  # [F, C]
    variances, axes = torch.linalg.eigh(whitened @ whitened.mT)
    variances, axes = variances[-AXES:], axes[:, -AXES:]
    return variances, whitened.mT @ axes / variances.clamp_min(torch.finfo(variances.dtype).tiny).sqrt()


def solve_familiarity(discriminant: Discriminant, spread: Spread | None, usual: Usual) -> Familiarity | None:
    """The measure to be served; None if nothing is known of what is usual, or no class is separated from another.

    spread: of the discriminant.  usual: pooled over tasks; scaled here to what log m and r are with this discriminant.
    """
    if spread is None or not usual.images:
        return None
    random = probes(len(spread.origin), PROBED) / PROBED**0.5
    # L^-T z measures z . L^-1 (x - mu), whose square is expected to be the squared length; less what lies along the
    # axes, which are measured themselves.
    across = torch.linalg.solve_triangular(discriminant.cholesky.mT, random, upper=True)
    across -= spread.axes @ (spread.axes.mT @ (discriminant.cholesky @ random))
    (near, relative), (near_off, relative_off) = usual.mean, usual.deviation
    scale = spread.information
    told = torch.tensor(
        [
            [near + math.log(discriminant.error), math.hypot(near_off, (2 / PROBED) ** 0.5)],
            [scale * relative, scale * relative_off],
        ]
    )
    unexplained = 1 / (1 + spread.variances)
    known = spread.centres, spread.allowances, discriminant.widths
    parts = (spread.origin, spread.axes, across, *known, unexplained, told)
    return Familiarity(*(part.float() for part in parts))


def measure_usual(discriminant: Discriminant, spread: Spread | None, left_out: LeftOut) -> Usual:
    """What is usual of some images, each of them left out.

    spread: of the discriminant.  Empty without a spread, or without an image.
    """
    if spread is None or not len(left_out):
        return Usual()
    near, relative, nearest = spread.distances(left_out.distances)
    units = left_out_widths(discriminant, left_out, nearest)
    expected, information = units * discriminant.error, units * spread.information
    scaled = torch.stack([(near / expected).clamp_min(LEAST).log(), relative / information], dim=1)
    return Usual.of(scaled, len(left_out) * discriminant.moments.counts.sum().item())
