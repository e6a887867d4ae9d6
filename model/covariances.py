"""A covariance for each class, and what it adds to the linear discriminant: the quadratic part of the head.

The linear head assumes that every class varies as all do together. Here class c adds to the shared covariance what its
own has beyond it, with a weight that grows with its number of images:

    Sigma_c = Sigma + n_c / (n_c + HALF_TRUSTED) (S_c - Sigma)+

where Sigma is the shared covariance with its ridge (Sigma + Lambda in `model.head`), S_c the class' own, and ()+ keeps
the directions, relative to Sigma, in which S_c is larger. If S_c were added whole, the few directions of it that are
kept would count less than others even where all classes vary alike, and the more images, the more so.

Classes that differ in covariance are Friedman's regularised discriminant analysis (JASA 1989) and, for streams of
classes, FeCAM (Goswami et al., NeurIPS 2023), whose F x F matrix per class is too much to keep and to serve. Instead,
moments keep a sketch, the scatter times a few fixed random probes, from which Nystroem's approximation recovers a
low-rank S_c (Tropp et al., Fixed-rank approximation of a positive-semidefinite matrix from streaming data, NeurIPS
2017). Being a sum, the sketch is the same in any order and any split.

Compared with a Gaussian of covariance Sigma, such a class pays for its volume, v_c = log(det Sigma_c / det Sigma) / 2,
which goes into its bias, and gains half a squared length along its own directions, |D_c (x - mu_c)|^2 / 2 with D_c^T
D_c = Sigma^-1 - Sigma_c^-1; by Woodbury's identity D_c has one row for each direction. No gain is negative, so the gain
of a class far from an image need not be computed: its score is a lower bound without it.

Shapes: C classes, F channels, S columns of a sketch, R = min(DIRECTIONS, S) directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from model.moments import ClassMoments, probes

HALF_TRUSTED = 500
"""Images with which a class' own covariance counts half as much as it could."""
DIRECTIONS = 8
"""How many directions of each class are served: of those in a sketch, the ones in which it exceeds the rest most."""
CLOSEST = 10
"""Classes whose gain is worked out for an image, by what they score without it, however many classes there are."""
CLASSES_AT_ONCE = 256
"""Classes solved at once, where there are many."""
ROUNDING = 1e-5
"""Share of a sketch's largest eigenvalue below which others are taken for rounding."""


@dataclass(frozen=True, slots=True)
class ClassCovariances:
    """What the gains of classes are worked out from.  directions: [C, R, F], D_c.  offsets: [C, R], D_c mu_c."""

    directions: Tensor
    offsets: Tensor

    @classmethod
    def solve(
        cls, moments: ClassMoments, cholesky: Tensor, pause: Callable[[], None] = lambda: None
    ) -> tuple[ClassCovariances, Tensor, Tensor]:
        """The covariances of all classes, the volumes v_c [C] that they pay, and their `lengths` [C].

        cholesky: [F, F], L lower triangular with L L^T = Sigma.  pause: called before each `CLASSES_AT_ONCE` classes.
        """
        lower = cholesky.float()  # its condition is but the root of the covariance's
        parts = zip(
            moments.scatter.split(CLASSES_AT_ONCE), moments.counts.float().split(CLASSES_AT_ONCE), strict=True
        )
        solved = []
        for scatter, counts in parts:
            pause()
            solved.append(own_directions(scatter, counts, lower))
        directions, volumes, long = (torch.cat(part) for part in zip(*solved, strict=True))
        offsets = directions @ moments.means.float().unsqueeze(-1)
        return cls(directions, offsets.squeeze(-1)), volumes, long

    def with_gains(self, features: Tensor, logits: Tensor) -> Tensor:
        """Logits [B, C] of features [B, F], volumes paid, with what the `CLOSEST` classes of each gain -> [B, C]."""
        best, classes = logits.topk(min(CLOSEST, logits.shape[1]), dim=1)  # [B, k]
        along = (self.directions[classes] @ features[:, None, :, None]).squeeze(-1)  # [B, k, R]
        gains = 0.5 * (along - self.offsets[classes]).square().sum(dim=2)
        return logits.scatter(1, classes, best + gains)

    def fits(self, width: int, classes: int) -> bool:
        """Whether its parts are of so many classes, and of features [B, F = width]."""
        shape = self.directions.shape
        return (
            self.offsets.shape == shape[:2] and len(shape) == 3 and (shape[0], shape[2]) == (classes, width)
        )

    def scaled(self, factor: float) -> ClassCovariances:
        """Those whose gains are `factor` times as large."""
        return ClassCovariances(factor**0.5 * self.directions, factor**0.5 * self.offsets)

    def parts(self) -> dict[str, Tensor]:
        """Its tensors by name, not copied."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device | str) -> ClassCovariances:
        return ClassCovariances(self.directions.to(device), self.offsets.to(device))


def own_directions(scatter: Tensor, counts: Tensor, cholesky: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """D_c [C, R, F], v_c [C] and `lengths` [C].

    scatter: [C, F, S], sketched.  counts: [C], images.  cholesky: [F, F], L with L L^T = Sigma.
    """
    core, whitened = whitened_sketch(scatter, cholesky)
    factors = low_rank(core, whitened)
    kept, volumes = whitened_directions(factors, counts)
    long = lengths(factors, whitened, counts, cholesky)
    return rows_solved(cholesky.mT, kept, upper=True), volumes, long


def whitened_sketch(scatter: Tensor, cholesky: Tensor) -> tuple[Tensor, Tensor]:
    """A sketch Y [C, F, S] as `low_rank` takes it: Omega^T Y [C, S, S], and L^-1 Y transposed [C, S, F]."""
    by = probes(*scatter.shape[1:]).float()
    return by.mT @ scatter, rows_solved(cholesky, scatter.mT, upper=False)


def lengths(factors: Tensor, whitened: Tensor, counts: Tensor, cholesky: Tensor) -> Tensor:
    """tr Sigma^-1 A_c [C] of scatters A_c: the sum over a class' images of the squared distance to their mean.

    factors: [C, S, F], `low_rank` of the rest, which is all of A_c while there are no more images than columns. Of more
    it is not, and Hutchinson's estimate with the sketch's own probes is better the more there are.
    """
    columns = whitened.shape[1]
    leaning = torch.linalg.solve_triangular(cholesky, probes(len(cholesky), columns).float(), upper=False)
    estimated = (whitened * leaning.mT).sum(dim=(1, 2)) / columns
    return torch.where(counts > columns, estimated, factors.square().sum(dim=(1, 2)))


def whitened_directions(factors: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """D_c L [C, R, F] and v_c [C], of factors [C, S, F] of whitened scatters (`low_rank`) and counts [C].

    Whitened, Sigma is I and S_c is U diag(s) U^T with orthonormal U. Where s exceeds 1, Sigma_c is I + U diag(b) U^T
    with b = n / (n + HALF_TRUSTED) (s - 1): so v_c is the sum of log(1 + b) / 2, and D_c L is
    diag(b / (1 + b))^(1/2) U^T.
    """
    freedom = (counts - 1).clamp_min(1)[:, None, None]
    factors = factors / freedom.sqrt()  # B with B^T B = S_c, whitened
    spread, axes = torch.linalg.eigh(factors @ factors.mT)  # [C, S] s, [C, S, S]
    spread, axes = spread[:, -DIRECTIONS:].clamp_min(1), axes[:, :, -DIRECTIONS:]
    beyond = (counts / (counts + HALF_TRUSTED)).unsqueeze(1) * (spread - 1)  # [C, R], b
    kept = (beyond / (1 + beyond) / spread).sqrt().unsqueeze(-1) * (axes.mT @ factors)
    return kept, 0.5 * beyond.log1p().sum(dim=1)


def rows_solved(triangle: Tensor, rows: Tensor, *, upper: bool) -> Tensor:
    """Each row b of [C, n, F] as A^-1 b, of a triangular A [F, F]; all in one call."""
    return torch.linalg.solve_triangular(triangle, rows.flatten(0, 1).mT, upper=upper).mT.reshape(rows.shape)


def low_rank(core: Tensor, rows: Tensor) -> Tensor:
    """B [C, S, F] with B^T B nearly T A T^T, for positive semidefinite A [C, F, F] and any T [F, F].

    core: [C, S, S], Omega^T Y for Y = A Omega.  rows: [C, S, F], T Y transposed.  Omega: what `probes` gives.
    Nystroem: A is nearly Y (Omega^T Y)^+ Y^T, and exactly that where its rank is at most S.
    """
    size, axes = torch.linalg.eigh((core + core.mT) / 2)
    real = size > ROUNDING * size[:, -1:].clamp_min(torch.finfo(size.dtype).tiny)
    root = torch.where(real, size, 1).rsqrt() * real  # [C, S]
    return root.unsqueeze(-1) * (axes.mT @ rows)
