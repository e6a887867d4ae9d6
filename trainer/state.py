"""Everything learned so far, as one immutable record and one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from model.backbone import Backbone
from model.checkpoint import InvalidCheckpoint, read_tensors, write_tensors
from model.deliberation import LoopConfig
from model.head import Head, random_projection
from model.moments import ClassMoments
from model.pools import Pools
from trainer.config import LearnerConfig


@dataclass(frozen=True, slots=True)
class Drift:
    """A map [d, d] of features from one space to the next, as `fit_drift` found it; see `model.checkpoint`."""

    before: str
    after: str
    map: Tensor


@dataclass(frozen=True, slots=True)
class LearnerState:
    """d channels, D projections, C classes.

    pools: slots of all tasks.  head: the classifier, its projection fixed for life.
    features: moments of features [d];  projected: moments of projected features [D], from which the head is solved.
    taught: the tasks learned for good, oldest first, by id: the labels each of them taught.
    last, best: each task's newest and best accuracy on its held-out images, where there are any.
    drifts: how the newest consolidations moved features, oldest first.
    corrected: ids of the newest corrections learned for good.
    """

    pools: Pools
    head: Head
    features: ClassMoments
    projected: ClassMoments
    taught: Mapping[str, tuple[str, ...]]
    last: Mapping[str, float]
    best: Mapping[str, float]
    drifts: tuple[Drift, ...] = ()
    corrected: tuple[str, ...] = ()

    @classmethod
    def start(cls, backbone: Backbone, loop: LoopConfig, config: LearnerConfig) -> LearnerState:
        """Nothing learned yet."""
        return cls(
            pools=Pools.empty(loop, backbone.dim),
            head=Head.blank(random_projection(backbone.dim, config.width, config.seed)),
            features=ClassMoments.empty(backbone.dim),
            projected=ClassMoments.empty(config.width),
            taught={},
            last={},
            best={},
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Ids of the tasks learned for good, oldest first."""
        return tuple(self.taught)

    def having_learned(self, task: str, labels: Iterable[str]) -> LearnerState:
        """The same state, with a task counted as learned for good."""
        return replace(self, taught={**self.taught, task: tuple(dict.fromkeys(labels))})

    def save(self, path: Path) -> None:
        """Write one safetensors file. The caller makes it durable and gives it its final name."""
        tensors = {
            "pools.keys": self.pools.keys,
            "pools.values": self.pools.values,
            "pools.feedback": self.pools.feedback,
            "head.projection": self.head.projection,
            "head.weight": self.head.weight,
            "head.bias": self.head.bias,
        }
        for name, moments in (("features", self.features), ("projected", self.projected)):
            tensors |= {
                f"{name}.gram": moments.gram,
                f"{name}.sums": moments.sums,
                f"{name}.counts": moments.counts,
            }
        tensors |= {f"drift.{number}": drift.map for number, drift in enumerate(self.drifts)}
        facts = {
            "slot_tasks": self.pools.slot_tasks,
            "labels": self.features.labels,
            "sharpness": self.head.sharpness,
            "taught": dict(self.taught),
            "last": dict(self.last),
            "best": dict(self.best),
            "drifts": [(drift.before, drift.after) for drift in self.drifts],
            "corrected": self.corrected,
        }
        write_tensors(path, tensors, facts)

    @classmethod
    def load(cls, path: Path) -> LearnerState:
        """Read what `save` wrote. Raises InvalidCheckpoint."""
        tensors, facts = read_tensors(path)
        try:
            labels = tuple(facts["labels"])
            features, projected = (
                ClassMoments(
                    tensors[f"{name}.gram"], tensors[f"{name}.sums"], tensors[f"{name}.counts"], labels
                )
                for name in ("features", "projected")
            )
            pools = Pools(
                tensors["pools.keys"],
                tensors["pools.values"],
                tensors["pools.feedback"],
                tuple(facts["slot_tasks"]),
            )
            head = Head(
                tensors["head.projection"],
                tensors["head.weight"],
                tensors["head.bias"],
                float(facts["sharpness"]),
            )
            last, best = dict(facts["last"]), dict(facts["best"])
            taught = {task: tuple(labels) for task, labels in facts["taught"].items()}
            drifts = tuple(
                Drift(before, after, tensors[f"drift.{number}"])
                for number, (before, after) in enumerate(facts["drifts"])
            )
            corrected = tuple(facts["corrected"])
            return cls(pools, head, features, projected, taught, last, best, drifts, corrected)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidCheckpoint(f"{path.name} is no learner state: {error}") from error
