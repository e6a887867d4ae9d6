"""The upper bound: pools trained by our learner on every class at once, and two heads on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.continual.methods.base import Images, Setting, Watch, percent_right
from benchmarks.continual.methods.hippotune import HippoTune, HippoTuneConfig
from model.deliberation import LoopConfig
from model.moments import label_rows
from trainer.learning.config import LearnerConfig
from trainer.learning.task import Task


@dataclass(frozen=True, slots=True)
class JointConfig:
    """slots: in each layer; None takes as many as all tasks together would bring.

    decays: weight decays of the logistic regression, all of which are judged.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    slots: int | None = None
    decays: tuple[float, ...] = (1e-6, 1e-5, 1e-4)


class Joint(HippoTune):
    """One task of all classes.

    Answers come from the learner's own head. Logistic regression on the same features is judged beside it and the
    better of all is reported as `best_head`: chosen on test images, so the bound is rather too high than too low.
    """

    def __init__(self, config: JointConfig, setting: Setting) -> None:
        slots = config.slots or config.learner.slots * setting.tasks
        super().__init__(HippoTuneConfig(config.loop, replace(config.learner, slots=slots)), setting)
        self.decays = config.decays
        self.linear: dict[float, Tensor] = {}

    def learn(self, task: Task, watch: Watch) -> None:
        super().learn(task, watch)
        features = self.learner.extract(self.state.pools, task.pixels)
        targets = label_rows(task.labels, tuple(self.labels))
        self.linear = {decay: logistic_regression(features, targets, decay) for decay in self.decays}

    def report(self, tests: Sequence[Images]) -> dict[str, Any]:
        """Accuracy of every head over all test images, and the loop's diagnostics."""
        names = [name for images in tests for name in images.names]
        features = torch.cat([self.features(images) for images in tests])
        heads = {"analytic": self.serving.head.logits_of_many(features)}
        heads |= {
            f"linear, decay {decay:g}": affine(features, weight) for decay, weight in self.linear.items()
        }
        judged = {name: percent_right(scores, self.labels, names) for name, scores in heads.items()}
        return {"heads": judged, "best_head": max(judged.values()), **super().report(tests)}


def logistic_regression(features: Tensor, targets: Tensor, decay: float, steps: int = 200) -> Tensor:
    """Weights and bias [C, d + 1] minimising cross-entropy + decay |W|^2 on features [n, d], by L-BFGS."""
    features = F.normalize(features, dim=-1)
    weight = torch.zeros(int(targets.max()) + 1, features.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(affine(features, weight), targets) + decay * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach()


def affine(features: Tensor, weight: Tensor) -> Tensor:
    """[n, d] features, [C, d + 1] weights and bias -> [n, C]."""
    return F.linear(features, weight[:, :-1], weight[:, -1])
