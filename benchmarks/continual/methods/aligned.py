"""SLCA (Zhang et al., ICCV 2023): a slowly learning backbone, and a head realigned with a Gaussian of every class.

The authors' code undoes each realignment before the next task trains, draws with means that grow by the epoch, decays
weights and lowers rates on the way. Here the realigned head is trained on, at one rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.continual.methods.base import Setting, in_batches
from benchmarks.continual.methods.bodies import FullConfig
from benchmarks.continual.methods.trained import Trained, TrainedConfig
from model.moments import label_rows
from trainer.learning.task import Task


@dataclass(frozen=True, slots=True)
class AlignedConfig:
    """trained: body and head. The paper's body learns at 1e-4 from batches of 128; from 16, a fifth of it is better.

    samples: features drawn of each class, as many times as `epochs`.  lr: of the realignment.
    temperature: on logits scaled by their length, against overconfidence in the newest classes.
    ridge: added to every class' variances, in units of their mean: few images leave a covariance singular.
    """

    trained: TrainedConfig = field(
        default_factory=lambda: TrainedConfig(FullConfig(), lr=2e-5, head_lr=1e-2, optimizer="sgd")
    )
    samples: int = 256
    epochs: int = 5
    lr: float = 1e-2
    temperature: float = 0.1
    ridge: float = 1e-2


class Aligned(Trained):
    """Keeps a mean and a covariance of every class' features, as they were when it was learned."""

    def __init__(self, config: AlignedConfig, setting: Setting) -> None:
        super().__init__(config.trained, setting)
        self.align, dim = config, self.body.width
        self.means, self.factors = torch.zeros(0, dim), torch.zeros(0, dim, dim)
        self.groups: list[int] = []

    def settle(self, task: Task) -> None:
        features = in_batches(self.features, task.pixels)
        rows = label_rows(task.labels, self.known)
        new = len(self.known) - len(self.means)
        self.means = torch.cat([self.means, self.means.new_zeros(new, self.means.shape[1])])
        self.factors = torch.cat([self.factors, self.factors.new_zeros(new, *self.factors.shape[1:])])
        for row in rows.unique().tolist():
            self.means[row], self.factors[row] = gaussian(features[rows == row], self.align.ridge)
        if new:
            self.groups.append(new)
        if self.tasks:
            self.realign()

    def realign(self) -> None:
        """Train the head alone on features drawn from every class."""
        config, device = self.align, self.setting.device
        targets = torch.arange(len(self.known)).repeat_interleave(config.samples)
        steps = -(-len(targets) // config.samples) * config.epochs
        optimizer = torch.optim.SGD(self.head.parameters(), lr=config.lr, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(config.epochs):
            noise = torch.randn(len(self.known), config.samples, self.means.shape[1])
            drawn = (self.means.unsqueeze(1) + noise @ self.factors.mT).flatten(0, 1)  # [C * samples, d]
            for chunk in torch.randperm(len(targets)).split(config.samples):
                logits = scaled(self.head(drawn[chunk].to(device)), self.groups) / config.temperature
                optimizer.zero_grad()
                F.cross_entropy(logits, targets[chunk].to(device)).backward()
                optimizer.step()
                schedule.step()

    def kept(self) -> dict[str, Tensor]:
        return {"means": self.means, "factors": self.factors, "groups": torch.tensor(self.groups)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.means, self.factors, self.groups = (
            tensors["means"],
            tensors["factors"],
            tensors["groups"].tolist(),
        )


def gaussian(features: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Mean [d] and Cholesky factor [d, d] of the covariance of features [n, d]."""
    mean = features.mean(dim=0)
    centred = (features - mean).double()
    covariance = centred.mT @ centred / max(1, len(features) - 1)
    covariance.diagonal().add_(ridge * covariance.diagonal().mean().clamp_min(1e-6))
    return mean, torch.linalg.cholesky(covariance).float()


def scaled(logits: Tensor, groups: Sequence[int]) -> Tensor:
    """Logits [B, C] over the mean length of their parts, one part for each task's new classes: SLCA's normalisation."""
    lengths = torch.stack([part.norm(dim=1) for part in logits.split(list(groups), dim=1)], dim=1)
    return logits / lengths.mean(dim=1, keepdim=True).clamp_min(1e-7)
