"""Settings of learning. Defaults were found on validation images cut from training data.

The process around it has its own, in `trainer.process`: learning alone needs nothing but torch and timm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_SHRINKAGE = 1e-4
"""With less, and images that are all alike, the head's covariance is singular within what float64 tells apart."""


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """How a task is learned.

    slots: slots a task brings to each layer.
    value_scale: standard deviation of a new slot's values; the smaller, the faster training turns them.
    settled: classes after which the pools are done: tasks that come later are learned by the head alone, in closed
        form, and move no feature. With two, only the first task of more than one class brings slots.
    epochs: passes over a task's images while its slots train; 0 trains the head alone.
    least_steps: a task with few images is passed over more often than `epochs`, until it made so many updates.
    enough: training ends early with an epoch that answered this share of the images rightly.
    mirror: share of images seen mirrored while slots train; 0 for classes that are each other's mirror image.
    batch: images a step.
    lr: Adam's learning rate on the first task; later tasks use lr * later_lr, since they find useful slots.
    lambda_orth, lambda_ent: weights of the paper's orthogonality and entropy terms.
    drift_weight: weight of keeping what the head reads of this task's images where the pools before it put it, as a
        share of its squared length; 0 lets it go. The first task has nothing to keep.
    bptt: loop steps that carry a gradient; None carries all.
    shrinkage: added to every variance of the head's covariance, in means of them; `LEAST_SHRINKAGE` or more.
    drift_ridge: how strongly the drift map is pulled towards the identity.
    seed: of where slots and the linear head that teaches them start; images come in the same order whatever it is.
    """

    slots: int = 10
    value_scale: float = 0.02
    settled: int = 2
    epochs: int = 5
    least_steps: int = 50
    enough: float = 1.0
    mirror: float = 0.5
    batch: int = 16
    lr: float = 0.003
    later_lr: float = 0.33
    lambda_orth: float = 0.02
    lambda_ent: float = 0.0
    drift_weight: float = 10.0
    bptt: int | None = None
    shrinkage: float = 0.3
    drift_ridge: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not LEAST_SHRINKAGE <= self.shrinkage < math.inf:
            raise ValueError(
                f"shrinkage is {self.shrinkage}; it must be finite and at least {LEAST_SHRINKAGE}"
            )


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """What is held out of every task to measure forgetting, and when a version is too bad to be served.

    share: of each class' images, rounded down; 0 holds nothing out and measures nothing.
    per_class: at most so many images of a class.
    images: at most about so many images measured a version, over all tasks.
    tolerated_loss: a version whose mean accuracy on earlier tasks, among the labels known before, fell by more than
        this, 0..1, is not served; its task is then learned by the head alone, which leaves the features of older
        classes where they were, and fails if that costs them as much. 1 serves whatever was learned.
    least_images: with fewer held-out images of earlier tasks nothing is refused: a few answers more or less are chance.
    """

    share: float = 0.05
    per_class: int = 10
    images: int = 512
    tolerated_loss: float = 0.1
    least_images: int = 50
