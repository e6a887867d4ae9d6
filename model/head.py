"""The streaming analytic head: a regularised linear discriminant, solved from accumulated moments.

Each class is a Gaussian in the space that the head reads (`model.readout`), and all are equally likely a priori. If
they all had the same covariance, the best classifier would be linear. They nearly do, so scores start linear, and the
classes closest to an image are then scored again with what they do not share (`model.covariances`):

    score_c(x) = w_c . x + b_c + |D_c (x - mu_c)|^2 / 2
    w_c = (Sigma + Lambda)^-1 mu_c
    b_c = -w_c . mu_c / 2 + e / (2 (n_c + DOUBTED)) - v_c

with mean mu_c and n_c images of each class, the covariance Sigma within classes, a diagonal ridge Lambda
(`model.shrinkage`) and the error e of a mean of one image (`Discriminant.allowance`). v_c and D_c come from the class'
own covariance; the last term of the score is computed for the closest classes only.

Everything is solved from sums over images, so data may come in any order and any split, and no image is kept. The
number of images of a class affects its scores only through how precisely its mean and covariance are known.

RanPAC (McDonnell et al., NeurIPS 2023) accumulates the same Gram statistics and solves ridge regression onto one-hot
targets. That uses the same matrix inverse without the centring, so classes with many images pull answers their way. Its
random projection makes separable what the class token alone does not separate linearly. Reading several depths does
that too, and better, at a fraction of the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.covariances import ClassCovariances
from model.familiarity import Familiarity
from model.moments import ClassMoments
from model.shrinkage import COMPARED, regularised
from model.widths import prior_images, widths

IMAGES_AT_ONCE = 64
"""Images scored at once where there are many."""
DOUBTED = 2
"""Added to a class' images when its mean's error is allowed for: that of very few images is itself a guess."""
ALIKE = 1e-9
"""Share of their own likeness by which means must lie apart for that to be more than rounding."""


@dataclass(frozen=True, slots=True)
class Head:
    """A classifier. F channels read, C classes.

    weight: [F, C], w_c.  bias: [C], b_c.  Both less their mean over classes, which no softmax sees.
    sharpness: factor on all scores, one over the temperature of the softmax; see `model.calibration`.
    covariances: of the classes' own; None leaves the classifier linear.
    familiarity: how much images look like those of these classes; None where that is not known.
    """

    weight: Tensor
    bias: Tensor
    sharpness: float = 1.0
    covariances: ClassCovariances | None = None
    familiarity: Familiarity | None = None

    @classmethod
    def blank(cls, width: int) -> Head:
        """Knows no class yet. width: F."""
        return cls(torch.zeros(width, 0), torch.zeros(0))

    def fits(self, width: int, classes: int) -> bool:
        """Whether its parts are of so many classes, and of features [B, F = width]."""
        linear = (self.weight.shape, self.bias.shape) == ((width, classes), (classes,))
        others = self.covariances, self.familiarity
        return linear and all(part is None or part.fits(width, classes) for part in others)

    def logits(self, features: Tensor) -> Tensor:
        """features [B, F] -> [B, C], sharpness times score_c, whose softmax is the answer."""
        logits = features @ self.weight + self.bias
        if self.covariances is not None:
            logits = self.covariances.with_gains(features, logits)
        return self.sharpness * logits

    def familiar(self, features: Tensor) -> Tensor:
        """features [B, F] -> [B], see `Familiarity.of`; NaN where that is not known."""
        if self.familiarity is None:
            return features.new_full(features.shape[:1], math.nan)  # len() would fix the batch of a graph
        return self.familiarity.of(features)

    def logits_of_many(self, features: Tensor) -> Tensor:
        """The same for features [n, F] of more images than a batch: a batch reads some hundred kilobytes for each."""
        return torch.cat([self.logits(chunk) for chunk in features.split(IMAGES_AT_ONCE)])

    def to(self, device: torch.device | str) -> Head:
        covariances = None if self.covariances is None else self.covariances.to(device)
        familiarity = None if self.familiarity is None else self.familiarity.to(device)
        return Head(self.weight.to(device), self.bias.to(device), self.sharpness, covariances, familiarity)


@dataclass(frozen=True, slots=True)
class Discriminant:
    """What the moments of features give, solved; in float64 but for `covariances`.

    moments: of features of width F, C classes.  cholesky: [F, F], L lower triangular with L L^T = Sigma + Lambda.
    weight: [F, C], (Sigma + Lambda)^-1 mu_c.
    error: e, the squared Mahalanobis length by which one image is off its class' mean, on average.
    trace: t, the same before it is corrected for being measured on these very images.
    covariances: of the classes' own, None without sketches of them.
    volumes: [C], v_c = log(det Sigma_c / det (Sigma + Lambda)) / 2; 0 without sketches.
    lengths: [C], the sum over a class' images of their squared distances to its mean; t for each without sketches.
    """

    moments: ClassMoments
    cholesky: Tensor
    weight: Tensor
    error: float
    trace: float
    covariances: ClassCovariances | None
    volumes: Tensor
    lengths: Tensor

    @classmethod
    def of(
        cls, moments: ClassMoments, shrinkage: float | None = None, pause: Callable[[], None] = lambda: None
    ) -> Discriminant:
        """Solve moments, with the ridge that `regularised` finds, or that of a given shrinkage.

        pause: called between pieces of it that may take seconds each; may raise to abandon the work.
        """
        solved = regularised(moments, shrinkage, pause)
        trace = solved.error / solved.inflation
        known = moments, solved.cholesky, solved.weight(moments.means), solved.error, trace
        if not moments.scatter.shape[2]:
            return cls(*known, None, torch.zeros_like(moments.counts), trace * (moments.counts - 1))
        covariances, volumes, lengths = ClassCovariances.solve(moments, solved.cholesky, pause)
        return cls(*known, covariances, volumes.double(), lengths.double())

    @property
    def prior(self) -> float:
        """See `prior_images`."""
        return prior_images(self.lengths, self.moments.counts, self.trace)

    @property
    def widths(self) -> Tensor:
        """[C], s_c, by how much more than e images of each class are off its mean: see `model.widths`."""
        spare = self.moments.counts - 1
        return widths(self.lengths, spare, self.prior, self.trace, self.moments.freedom)

    @property
    def bias(self) -> Tensor:
        """[C], -w_c . mu_c / 2: neither allowance nor volume is in it yet."""
        return -0.5 * (self.moments.means * self.weight.mT).sum(dim=1)

    def allowance(self, images: Tensor) -> Tensor:
        """e / (2 (n + DOUBTED)), to add to the scores of classes of so many images n [...].

        A mean of n images is off by a squared length of e / n, and every image seems further away from it by so much:
        new classes of few images would hardly ever be answered beside those of many.
        """
        return 0.5 * self.error / (images + DOUBTED)

    def head(self, sharpness: float = 1.0) -> Head:
        """The classifier in float32, to be served, less what all classes have in common.

        That share moves no answer, but where images are much alike it is a thousand times what tells classes apart,
        and its rounding then answers instead of them.
        """
        weight = self.weight - self.weight.mean(dim=1, keepdim=True)
        bias = self.bias + self.allowance(self.moments.counts) - self.volumes
        return Head(weight.float(), (bias - bias.mean()).float(), sharpness, self.covariances)


def separation(means: Tensor, weight: Tensor) -> float:
    """By how much a class mean scores more for its own class than for the nearest other: the geometric mean over
    classes a of (mu_a - mu_b) . (w_a - w_b) / 2 for the class b where that is least.

    Not over all pairs: kinds that lie far apart make the classes of each no easier to tell from each other.

    means: [C, F].  weight: [F, C], of a `Discriminant`: so this is half a squared Mahalanobis distance. Of more than
    `COMPARED` classes so many are set against all. 0 for a class alone, and for classes of the same images.
    """
    if len(means) < 2:
        return 0.0
    columns = weight.double().mT  # [C, F]
    length = (means * columns).sum(dim=1).mean().abs().item()
    means, columns = means - means.mean(dim=0), columns - columns.mean(dim=0)
    own = (means * columns).sum(dim=1)
    rows = torch.arange(0, len(means), math.ceil(len(means) / COMPARED))
    apart = (own[rows].unsqueeze(1) + own) / 2 - means[rows] @ columns.mT
    nearest = apart.scatter(1, rows.unsqueeze(1), math.inf).amin(dim=1)
    told = nearest[nearest > ALIKE * length]
    return told.log().mean().exp().item() if len(told) else 0.0
