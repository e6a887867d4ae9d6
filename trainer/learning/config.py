"""Settings of learning. Defaults were found on validation images cut from training data.

The process around it has its own, in `trainer.config`: learning alone needs nothing but torch and timm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """How a task is learned. Raises ValueError for a value that makes no sense.

    slots: slots a task brings to each layer.
    value_scale: standard deviation of a new slot's values; the smaller, the faster training turns them.
    settled: classes after which the pools are done: tasks that come later are learned by the head alone, in closed
        form, and move no feature. With two, only the first task of more than one class, and enough images, brings
        slots.
    outweigh: a task with this many times the images of all tasks before it trains new slots even if the pools are done:
        the earlier tasks are then treated as a trial. 0 lets every task bring slots.
    least_images: images a task must bring for slots to be trained on them. Slots trained on fewer would fit those and
        little else, yet settle the pools: such a task is learned by the head alone, and the next may bring slots.
    epochs: passes over a task's images while its slots train; 0 trains the head alone.
    least_steps: a task with few images is passed over more often than `epochs`, until it made so many updates.
    enough: after these updates training ends with the first epoch that answers this share of the images correctly;
        above 1 with none but the last.
    few_classes: a task of fewer classes than this has its images told from each other as well, in all its epochs,
        whatever it answers by then. So one class alone brings slots too. By default no task does.
    vary: whether images are seen in ever new crops and light while slots train (`learning.views`); where they are told
        from each other, they are in any case. What slots are fitted to is then less of these very images.
    mirror: share of images seen mirrored while slots train; 0 for classes that are each other's mirror image.
    batch: images a step.
    lr: Adam's learning rate on the first task; later tasks use lr * later_lr, since they find useful slots. A rate
        between the two where fewer images came before than a task brings.
    lambda_orth, lambda_ent: weights of the paper's orthogonality and entropy terms.
    drift_weight: weight of the penalty on moving the features of this task's images away from where the pools before
        it put them, as a share of their squared length; 0 is no penalty. It counts for less where fewer images came
        before than the task brings: the first task has nothing to keep.
    bptt: last loop steps that pass a gradient back to each other; None lets all pass it.
    shrinkage: how much the head distrusts its covariance: each variance grows by this * channels / images of itself.
        None finds what lets expect the fewest errors (`model.shrinkage`).
    sketch: numbers kept of each class for every channel that the head reads, to tell how its own images spread
        (`model.covariances`); 0 takes all classes to spread alike. A store keeps what it started with.
    drift_ridge: how strongly the drift map is pulled towards the identity.
    seed: of where slots and the linear head that teaches them start; images come in the same order whatever it is.
    """

    slots: int = 10
    value_scale: float = 0.02
    settled: int = 2
    outweigh: float = 4.0
    least_images: int = 16
    epochs: int = 5
    least_steps: int = 100
    enough: float = 1.0
    few_classes: int = 0
    vary: bool = True
    mirror: float = 0.5
    batch: int = 16
    lr: float = 0.003
    later_lr: float = 0.33
    lambda_orth: float = 0.02
    lambda_ent: float = 0.0
    drift_weight: float = 10.0
    bptt: int | None = None
    shrinkage: float | None = None
    sketch: int = 24
    drift_ridge: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "slots", "batch", *([] if self.bptt is None else ["bptt"]))
        check_least(self, 0, "settled", "least_images", "epochs", "least_steps", "sketch", "seed")
        check_least(self, 0, "few_classes", "outweigh", "enough", "lambda_orth", "lambda_ent", "drift_weight")
        check_positive(self, "value_scale", "lr", "later_lr", "drift_ridge")
        check_positive(self, *([] if self.shrinkage is None else ["shrinkage"]))
        check_share(self, "mirror")


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """What is held out of every task to measure forgetting, and when a version is too bad to be served.

    Raises ValueError for a value that makes no sense.

    share: of each class' images, rounded down; 0 holds nothing out and measures nothing.
    per_class: at most so many images of a class.
    images: at most about so many images measured a version, over all tasks.
    tolerated_loss: a version that costs more than this share, 0..1, of the held-out images of earlier tasks, among the
        labels known before, is not served; its task is then learned by the head alone, which leaves the features of
        older classes where they were, and fails if that costs them as much. 1 serves whatever was learned.
    least_images: with fewer held-out images of earlier tasks nothing is refused: a few answers more or less are chance.
    """

    share: float = 0.05
    per_class: int = 10
    images: int = 512
    tolerated_loss: float = 0.1
    least_images: int = 50

    def __post_init__(self) -> None:
        check_share(self, "share", "tolerated_loss")
        if self.share == 1:
            raise ValueError(
                f"share is {self.share}; it must be less than 1, or nothing is left to learn from"
            )
        check_least(self, 1, "per_class", "images", "least_images")


def check_least(config: object, least: float, *names: str) -> None:
    """Raise ValueError unless these fields are finite and at least so much."""
    for name in names:
        if not least <= (value := getattr(config, name)) < math.inf:
            raise ValueError(f"{name} is {value}; it must be finite and at least {least}")


def check_positive(config: object, *names: str) -> None:
    """Raise ValueError unless these fields are finite and more than 0."""
    for name in names:
        if not 0 < (value := getattr(config, name)) < math.inf:
            raise ValueError(f"{name} is {value}; it must be finite and positive")


def check_share(config: object, *names: str) -> None:
    """Raise ValueError unless these fields lie in 0..1."""
    for name in names:
        if not 0 <= (value := getattr(config, name)) <= 1:
            raise ValueError(f"{name} is {value}; it must lie in 0..1")
