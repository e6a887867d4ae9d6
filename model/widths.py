"""How widely each class varies, relative to all: what distances to its mean are measured in.

All classes share one covariance M. Where kinds differ, as drawings and photographs do, it is too small for some classes
and too large for others, and by how much changes with every task: of images that all looked usual, some then lie twice
as far from their class' mean as an average image does, and others half as far. So the width of class c is

    s_c = g(h_c) / g(t)        g(h) = h / (1 - h / f)        h_c = (tr M^-1 S_c + k t) / (n_c - 1 + k)

with the scatter S_c of its n_c images, Sigma the covariance of all with f degrees of freedom and t = tr M^-1 Sigma. An
image is expected to lie e from its class' mean, squared (`model.shrinkage`), and one of this class s_c e. As there, g
corrects for M being solved from these very images, as in generalised cross-validation, but class by class: where one
class alone varies in some directions, M has them from its images alone.

The mean of all classes counts as k more images of each, which are fewer the more classes differ:

    k = NOISE / var_c log(tr M^-1 S_c / (n_c - 1))

less the variance that so many images have by chance: empirical Bayes, as Smyth moderates variances (Linear models and
empirical Bayes methods, Statistical Applications in Genetics 2004).
"""

from __future__ import annotations

from torch import Tensor

NOISE = 0.1
"""Variance of the logarithm of an image's squared distance from its class' mean."""
MOST_PRIOR = 50.0
"""k where classes differ by no more than chance, as far as can be told."""
LEAST_CLASSES = 4
"""Classes of two images or more below which nothing can: two or three differ much by chance."""
MOST_LEVERAGE = 0.95
"""h / f counts as no more than this: of a class that M has some directions from alone, it is nearly 1."""
LEAST = 1e-3
"""The least width, as a share of the mean, that counts for k: images may repeat."""


def prior_images(lengths: Tensor, counts: Tensor, trace: float) -> float:
    """k, for the lengths tr M^-1 S_c [C] of classes of so many images [C], and their mean t."""
    spare = counts - 1
    known = spare > 0
    if known.sum() < LEAST_CLASSES:
        return MOST_PRIOR
    widths = (lengths[known] / spare[known] / trace).clamp_min(LEAST).log()
    varied = widths.var().item() - NOISE * (1 / spare[known]).mean().item()
    return NOISE / max(varied, NOISE / MOST_PRIOR)


def widths(lengths: Tensor, spare: Tensor, prior: float, trace: float, freedom: Tensor) -> Tensor:
    """s_c, of any classes [...].

    lengths: [...], tr M^-1 S_c.  spare: [...], n_c - 1.  prior: k.  trace: t.  freedom: [], f.
    """
    own = (lengths + prior * trace) / (spare + prior)
    return corrected(own, freedom) / corrected(own.new_tensor(trace), freedom)


def corrected(length: Tensor, freedom: Tensor) -> Tensor:
    """g: what images elsewhere are off that are off by this much where M was solved from them."""
    return length / (1 - (length / freedom).clamp_max(MOST_LEVERAGE))
