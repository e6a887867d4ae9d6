"""Per-class first and shared second moments of feature vectors: all that is kept of learned images.

The head is solved from them. They also say where each class lies, so that it can follow when new pools move features.
Each class' own second moments are kept as a sketch: see `model.covariances`.

Shapes: n vectors of F channels, C classes, S columns of a sketch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ClassMoments:
    """Sums over labelled vectors. Any order and any split of them gives the same, but for rounding.

    In float64: a covariance is a small difference of large sums. Scatters, which are taken about the mean, in float32.

    gram: [F, F], sum of x x^T.  sums: [C, F], sum of x a class.  counts: [C], vectors a class, 1 at least.
    scatter: [C, F, S], S_c Omega: of each class the sum of (x - mu_c) (x - mu_c)^T, times the `probes` [F, S].
    labels: [C], in the order first seen.

    Raises ValueError where the parts are not of the same channels and classes.
    """

    gram: Tensor
    sums: Tensor
    counts: Tensor
    scatter: Tensor
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        width, classes = len(self.gram), len(self.labels)
        parts = (self.gram, self.sums, self.counts, self.scatter)
        gram, sums, counts, scatter = (tuple(part.shape) for part in parts)
        wanted = (width, width), (classes, width), (classes,), (classes, width)
        if (gram, sums, counts, scatter[:-1]) != wanted:
            raise ValueError(
                f"gram {gram}, sums {sums}, counts {counts} and scatter {scatter} are not the moments of "
                f"{classes} classes"
            )

    @classmethod
    def empty(cls, width: int, sketch: int = 0) -> ClassMoments:
        """Of no vector yet. width: F.  sketch: S, columns kept of each class' scatter."""
        double = torch.float64
        return cls(
            torch.zeros(width, width, dtype=double),
            torch.zeros(0, width, dtype=double),
            torch.zeros(0, dtype=double),
            torch.zeros(0, width, sketch),
            (),
        )

    @property
    def width(self) -> int:
        """F"""
        return self.gram.shape[0]

    def observe(self, vectors: Tensor, labels: tuple[str, ...]) -> ClassMoments:
        """Add vectors [n, F], a label each, new or known. Raises ValueError when the two do not match in length."""
        if len(vectors) != len(labels):
            raise ValueError(f"{len(labels)} labels for {len(vectors)} vectors")
        vectors = vectors.double()
        known = tuple(dict.fromkeys(self.labels + labels))
        rows = label_rows(labels, known)
        grown = len(known) - len(self.labels)
        sums = torch.cat([self.sums, self.sums.new_zeros(grown, self.width)])
        counts = torch.cat([self.counts, self.counts.new_zeros(grown)])
        return ClassMoments(
            self.gram + vectors.mT @ vectors,
            sums.index_add(0, rows, vectors),
            counts.index_add(0, rows, torch.ones(len(rows), dtype=torch.float64)),
            self._scattered(vectors, rows, grown),
            known,
        )

    def _scattered(self, vectors: Tensor, rows: Tensor, grown: int) -> Tensor:
        """The scatters once vectors [n, F] of the classes `rows` [n] are added, with `grown` more classes.

        Those about the mean of all, from those about the means of what was known and of what comes: see `apart`.
        """
        width, columns = self.scatter.shape[1:]
        scatter = torch.cat([self.scatter, self.scatter.new_zeros(grown, width, columns)])
        if not columns:
            return scatter
        by, means = probes(width, columns), self.means
        for row in rows.unique().tolist():
            own = vectors[rows == row]
            parts = [own - own.mean(dim=0)]
            if row < len(self.labels):
                new = torch.tensor(len(own), dtype=torch.float64)
                parts.append(apart(self.counts[row], new, own.mean(dim=0) - means[row]))
            for part in parts:
                scatter[row] += (part.mT @ (part @ by)).float()
        return scatter

    def renamed(self, label: str, becomes: str) -> ClassMoments:
        """The moments with a class called by a label that no other has, and at its place."""
        return replace(self, labels=tuple(becomes if known == label else known for known in self.labels))

    def merged(self, label: str, into: str) -> ClassMoments:
        """The moments with the vectors of one class counted as another's, as if all had come under that label.

        Raises ValueError for a class that is not known.
        """
        gone, stays = self.labels.index(label), self.labels.index(into)
        kept = [row for row in range(len(self.labels)) if row != gone]
        sums, counts, scatter = self.sums.clone(), self.counts.clone(), self.scatter.clone()
        sums[stays] += sums[gone]
        counts[stays] += counts[gone]
        scatter[stays] += scatter[gone]
        if columns := scatter.shape[2]:
            part = apart(self.counts[stays], self.counts[gone], self.means[gone] - self.means[stays])
            scatter[stays] += (part.mT @ (part @ probes(self.width, columns))).float()
        labels = tuple(self.labels[row] for row in kept)
        return ClassMoments(self.gram, sums[kept], counts[kept], scatter[kept], labels)

    def without(self, labels: frozenset[str]) -> ClassMoments:
        """Forget classes: their means go. The covariance stays, since it is shared and no part of it is theirs alone.

        Its degrees of freedom shrink: from now on it counts as if it were estimated from the remaining vectors only.
        """
        kept = torch.tensor([label not in labels for label in self.labels], dtype=torch.bool)
        known = tuple(label for label in self.labels if label not in labels)
        left = ClassMoments(self.gram, self.sums[kept], self.counts[kept], self.scatter[kept], known)
        return replace(left, gram=left.between + left.freedom * self.covariance)

    @property
    def means(self) -> Tensor:
        """[C, F], mu_c."""
        return self.sums / self.counts.unsqueeze(1)

    @property
    def between(self) -> Tensor:
        """[F, F], what of the Gram matrix the class means account for: sum over classes of n_c mu_c mu_c^T."""
        return self.sums.mT @ self.means

    @property
    def freedom(self) -> Tensor:
        """[], n - C, the degrees of freedom f that a covariance within classes is estimated with; 1 at least."""
        return (self.counts.sum() - len(self.labels)).clamp_min(1)

    @property
    def covariance(self) -> Tensor:
        """[F, F], Sigma: the covariance within classes, pooled over all of them, unbiased."""
        return (self.gram - self.between) / self.freedom

    def shifted(self, moved: Tensor) -> ClassMoments:
        """The moments with each class' mean moved by a row of `moved` [C, F], and the covariance as it is."""
        sums = self.sums + self.counts.unsqueeze(1) * moved
        there = replace(self, sums=sums)
        return replace(there, gram=self.gram - self.between + there.between)


def apart(one: Tensor, other: Tensor, gap: Tensor) -> Tensor:
    """[1, F], the vector v whose v^T v the scatter of two groups has beyond those of each alone: sqrt(k m / (k + m)) g.

    one, other: [], k and m, vectors in each.  gap: [F], g, from mean to mean. Chan, Golub & LeVeque, The American
    Statistician 1983.
    """
    return ((one * other / (one + other)).sqrt() * gap).unsqueeze(0)


def probes(width: int, columns: int) -> Tensor:
    """Omega [F, S], standard normal: what scatters are multiplied by. The same wherever it is asked for, and so part of
    what sketches mean: with another one they could not be added to."""
    return torch.randn(width, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def label_rows(labels: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
    """[n] int64: the row of each label among the known ones. Raises KeyError for one that is not known."""
    row_of = {label: row for row, label in enumerate(known)}
    return torch.tensor([row_of[label] for label in labels], dtype=torch.int64)


def fit_drift(before: Tensor, after: Tensor, ridge: float) -> Tensor:
    """A [F, F] minimising |after - before A|^2 + lambda |A - I|^2 over pairs of features [n, F]: ridge regression, in
    closed form.

    How new pools move features, learned on the task at hand and applied to classes whose images are gone. Pulling
    towards the identity leaves directions alone that the task says nothing about. lambda is `ridge` times the mean
    of the diagonal of before^T before.
    """
    # In A - I, which is pulled towards zero: (B^T B + lambda I) (A - I) = B^T (after - B).
    gram = before.double().mT @ before.double()
    strength = ridge * gram.diagonal().mean().clamp_min(1e-12)
    gram.diagonal().add_(strength)
    moved = torch.linalg.solve(gram, before.double().mT @ (after - before).double())
    return torch.eye(len(moved)) + moved.float()
