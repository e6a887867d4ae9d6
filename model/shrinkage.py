"""How much the head distrusts its covariance: a ridge, chosen from the moments alone.

With fewer images than channels a covariance is singular, and with a few more it is still mostly noise. So each
channel's variance is increased by a share that fades as images come. The best share depends on the images: photographs
need a larger one than textures, letters or surface defects (`python -m benchmarks.kinds`). So does the question whether
it is a share of the channel's own variance or of one drawn towards the mean of all. Both are chosen without any image,
as those with the fewest expected errors.

With covariance S of f degrees of freedom, its ridge Lambda, M = S + Lambda and means mu of n images each, let
v = mu_a - mu_b for classes a and b. An image of class a falls on the wrong side with probability Phi(-d_ab),

    d_ab = (v^T M^-1 v - e / n_a - e / n_b) / (2 (1 + k) (v^T M^-1 S M^-1 v)^(1/2))

where e is the squared distance of an image from its class' mean, and 1 + k corrects for variance being underestimated
in the directions that M^-1 favours because they are narrow in these very images. Both follow from the trace t = tr M^-1
S, as in generalised cross-validation: 1 + k = 1 / (1 - t / f) and e = t (1 + k). For Gaussian classes of one covariance
this becomes exact as channels and images grow (Dobriban & Wager, High-dimensional asymptotics of prediction, Annals of
Statistics 2018). The sum of all Phi(-d_ab) bounds the share of wrong answers. A ridge is replaced only by one that
lowers this bound by at least 2 %.

With one image a class, nothing says how images vary within classes. The covariance of the class means then takes the
place of S: what differs most between classes mostly differs most between images.

Only sums go in, so any order and any split of the same images gives the same ridge.

Shapes: F channels, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.moments import ClassMoments, probes

DRAWN_PRIOR, OWN_PRIOR = 300.0, 1.0
"""Degrees of freedom with which a channel's own variance counts as much as the mean of all channels: as many where
nothing tells, or so few that it hardly counts for anything but a channel that does not vary."""
LEAST_RIDGE = 1e-4
"""Share of its variance that a channel is given at least. With less, and images that are all alike, the covariance is
singular as far as float64 can tell."""
USUAL_SHARE, LEAST_SHARE = 1.0, 1 / 8
"""The shrinkage if nothing else is known, and the least that is tried, by halves. With many photographs, twice the
first lowers the expected errors by a few per cent, but validation images were answered no better."""
LEAST_FREEDOM = 6
"""Degrees of freedom below which nothing is chosen."""
LEAST_SAVING = math.log(0.98)
"""What the logarithm of the expected errors must change by for another ridge: less is not known so exactly, and
rounding must not choose."""
SPARE_SHARE, SPARE = 0.1, 20
"""Images more than classes, as a share of these and in all, below which hardly anything tells what varies within."""
MEANS_RIDGE = 10.0
"""The ridge on how class means vary, as a multiple of their mean variance."""
LEAST_SPREAD = 1e-9
"""Least spread of scores, as a share of their distance, that counts. Images may repeat."""
TRACE_PROBES = 64
"""Random vectors that a trace is estimated by, to within a per cent."""
COMPARED = 1024
"""Classes set against each other at most, which takes time with their square."""


@dataclass(frozen=True, slots=True)
class Regularised:
    """A covariance with its ridge, factorised; in float64.

    ridge: [F], the diagonal of Lambda.  cholesky: [F, F], L lower triangular with L L^T = M.
    inflation: 1 + k.  error: e.
    """

    ridge: Tensor
    cholesky: Tensor
    inflation: float
    error: float

    @classmethod
    def of(
        cls, covariance: Tensor, freedom: Tensor, shrinkage: float, prior: float = DRAWN_PRIOR
    ) -> Regularised:
        """With Lambda as `ridge` gives it for the same arguments. One factorisation, O(F^3)."""
        added = ridge(covariance, freedom, shrinkage, prior)
        # In place: of a wide backbone, another matrix for a sum would be hundreds of megabytes.
        spread = covariance.clone()
        spread.diagonal().add_(added)
        cholesky = torch.linalg.cholesky(spread)
        # Hutchinson's estimate of a trace (Communications in Statistics 1989): all F less that of Lambda's part.
        random = probes(len(covariance), TRACE_PROBES)
        hidden = torch.linalg.solve_triangular(cholesky, added.sqrt().unsqueeze(1) * random, upper=False)
        trace = (random.square().sum() - hidden.square().sum()).clamp_min(0).item() / TRACE_PROBES
        # Below f, since the rank of S is; an estimate need not be.
        inflation = 1 / (1 - min(trace / freedom.item(), 1 - LEAST_RIDGE))
        return cls(added, cholesky, inflation, trace * inflation)

    def weight(self, means: Tensor) -> Tensor:
        """means [C, F] -> [F, C], M^-1 mu_c."""
        return torch.cholesky_solve(means.mT, self.cholesky)

    def log_expected_errors(self, means: Tensor, counts: Tensor) -> float:
        """The logarithm of the sum of Phi(-d_ab) over all ordered pairs of classes.

        means: [C, F] of two classes or more.  counts: [C], images of each.
        """
        centred = means - means.mean(dim=0)
        weight = self.weight(centred)
        reach = centred @ weight  # [C, C], mu_a^T M^-1 mu_b
        spread = reach - weight.mT @ (self.ridge.unsqueeze(1) * weight)  # with M^-1 S M^-1, as S = M - Lambda
        apart, wide = between_pairs(reach), between_pairs(spread)
        wide = torch.maximum(wide, LEAST_SPREAD * apart).clamp_min(torch.finfo(wide.dtype).tiny)
        off = self.error / counts
        distance = (apart - off.unsqueeze(1) - off) / (2 * self.inflation * wide.sqrt())
        errors = torch.special.log_ndtr(-distance).fill_diagonal_(-math.inf)  # no class is taken for itself
        return errors.flatten().logsumexp(dim=0).item()


def between_pairs(inner: Tensor) -> Tensor:
    """Squared lengths [C, C] of the differences of C vectors, of their inner products [C, C]."""
    own = inner.diagonal()
    return own.unsqueeze(1) + own - inner - inner.mT


def regularised(
    moments: ClassMoments, shrinkage: float | None = None, pause: Callable[[], None] = lambda: None
) -> Regularised:
    """Their covariance with the ridge of the given shrinkage; without one, with the ridge of the fewest expected
    errors.

    If hardly any class has two images, the covariance of the class means is used instead.
    pause: called before each factorisation, which takes seconds on a wide backbone; may raise to abandon the work.
    """
    covariance, freedom = moments.covariance, moments.freedom

    def tried(share: float, prior: float = DRAWN_PRIOR) -> Regularised:
        pause()
        return Regularised.of(covariance, freedom, share, prior)

    classes = len(moments.labels)
    if classes > 1 and moments.counts.sum() - classes < min(SPARE_SHARE * classes, SPARE):
        return between(moments.means, USUAL_SHARE if shrinkage is None else shrinkage)
    best = tried(USUAL_SHARE if shrinkage is None else shrinkage)
    if shrinkage is not None or classes < 2 or freedom < LEAST_FREEDOM:
        return best
    rows = compared(moments.labels)
    means, counts = moments.means[rows], moments.counts[rows]
    prior, least = DRAWN_PRIOR, best.log_expected_errors(means, counts)
    own = tried(USUAL_SHARE, OWN_PRIOR)
    if (errors := own.log_expected_errors(means, counts)) < least + LEAST_SAVING:
        best, prior, least = own, OWN_PRIOR, errors
    share = USUAL_SHARE
    while share > LEAST_SHARE:
        share /= 2
        halved = tried(share, prior)
        if (errors := halved.log_expected_errors(means, counts)) >= least + LEAST_SAVING:
            break  # they fall to the least and rise again
        best, least = halved, errors
    return best


def between(means: Tensor, shrinkage: float) -> Regularised:
    """The covariance of class means [C, F], with its ridge, in place of that within classes."""
    freedom = means.new_tensor(means.shape[1] / MEANS_RIDGE)
    return Regularised.of(means.mT.cov(), freedom, shrinkage, math.inf)


def compared(labels: Sequence[str]) -> list[int]:
    """Rows of the classes that are set against each other: the same ones in whatever order they came."""
    rows = sorted(range(len(labels)), key=labels.__getitem__)
    return rows[:: math.ceil(len(rows) / COMPARED)]


def ridge(covariance: Tensor, freedom: Tensor, shrinkage: float, prior: float = DRAWN_PRIOR) -> Tensor:
    """The diagonal [F] of Lambda: Lambda_i = max(shrinkage F / f, LEAST_RIDGE) s_i.

    covariance: [F, F], S, estimated with so many degrees of freedom f, `freedom` [].

    s_i is the variance of channel i, drawn towards the mean of all: s_i = k S_ii + (1 - k) tr S / F with
    k = f / (f + prior). Images that do not vary at all, as where each is the only one of its class, leave the
    nearest class mean.
    """
    variances = covariance.diagonal()
    known = freedom / (freedom + prior)
    own = known * variances + (1 - known) * variances.mean()
    share = (shrinkage * len(variances) / freedom).clamp_min(LEAST_RIDGE)
    return share * own.clamp_min(1e-9)
