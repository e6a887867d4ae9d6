"""Everything learned so far, as one immutable record and one file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from torch import Tensor

from model.backbone import Backbone
from model.calibration import Sharpness
from model.checkpoint import InvalidCheckpoint, put_together, read_tensors, taken_apart, write_tensors
from model.deliberation import LoopConfig
from model.head import Head
from model.moments import ClassMoments
from model.pools import Pools
from model.usual import Usual
from trainer.learning.seen import NO_DIGESTS, Seen
from trainer.learning.task import Task


@dataclass(frozen=True, slots=True)
class Drift:
    """How a consolidation moved features: x in the space `before` is x map in the space `after`.

    before, after: hashes, see `feature_space`.  map: [F, F], as `fit_drift` found it.
    """

    before: str
    after: str
    map: Tensor


@dataclass(frozen=True, slots=True, weakref_slot=True)
class LearnerState:
    """Pools, and what the head is solved from. C classes, F channels that the head reads.

    pools: slots of all tasks.  loop: what they were trained in.
    head: the classifier, over the C classes in the order of `labels`.
    moments: of what the head reads, from which it is solved.
    taught: the tasks learned for good, oldest first, by id: the labels each of them taught.
    last, best: each task's newest and best accuracy on its held-out images, 0..1, where there are any.
    judged: how sure each task said the head may be, by id; together they are its sharpness.
    usual: how strange each task's images look to the head, by id; together they are what it takes for familiar.
    drifts: how the newest consolidations moved features, oldest first.
    corrected: ids of the newest corrections learned for good.
    changed: ids of the newest orders that were carried out.
    gone: of tasks, by id, how many classes less the pools seem to be taught, since those were forgotten or merged.
    seen: the images that were learned.
    held_out: of each task, by id, those that never will be.
    """

    pools: Pools
    loop: LoopConfig
    head: Head
    moments: ClassMoments
    taught: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    last: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    judged: Mapping[str, Sharpness] = field(default_factory=dict)
    usual: Mapping[str, Usual] = field(default_factory=dict)
    drifts: tuple[Drift, ...] = ()
    corrected: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: Mapping[str, int] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    held_out: Mapping[str, Seen] = field(default_factory=dict)

    @classmethod
    def start(cls, backbone: Backbone, loop: LoopConfig, sketch: int) -> LearnerState:
        """Nothing learned yet. sketch: columns kept of each class' scatter."""
        return cls(
            pools=Pools.empty(loop, backbone.dim),
            loop=loop,
            head=Head.blank(backbone.width),
            moments=ClassMoments.empty(backbone.width, sketch),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class known, in the order of the head's columns."""
        return self.moments.labels

    @property
    def images(self) -> float:
        """How many images of the classes known the head is solved from."""
        return self.moments.counts.sum().item()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Ids of the tasks learned for good, oldest first."""
        return tuple(self.taught)

    @property
    def pool_labels(self) -> frozenset[str]:
        """Classes that the pools were taught, by tasks that brought slots."""
        return frozenset(label for task in set(self.pools.slot_tasks) for label in self.taught.get(task, ()))

    @property
    def pool_classes(self) -> int:
        """How many classes the pools were taught, with those that are no more."""
        return len(self.pool_labels) + sum(self.gone.get(task, 0) for task in set(self.pools.slot_tasks))

    @property
    def sharpness(self) -> Sharpness:
        """How sure the head may be, by what all tasks together say."""
        return reduce(Sharpness.pooled, self.judged.values(), Sharpness())

    def having_learned(self, task: str, labels: Iterable[str]) -> LearnerState:
        """The same state, with a task counted as learned for good."""
        return replace(self, taught={**self.taught, task: tuple(dict.fromkeys(labels))})

    def having_seen(self, task: Task) -> LearnerState:
        """The same state, with the images of a task, those held out as well, counted as known."""
        held_out = {**self.held_out, task.id: task.held_out} if len(task.held_out) else self.held_out
        return replace(self, seen=self.seen.joined(task.seen), held_out=held_out)

    def knows(self, task: str) -> bool:
        """Whether a task or a correction was learned for good, or an order carried out, as far as is remembered."""
        return task in self.taught or task in self.corrected or task in self.changed

    @property
    def known(self) -> Seen:
        """Every image that is not to be learned again, or not at all."""
        return self.seen.joined(*self.held_out.values())

    def known_of(self, labels: Collection[str]) -> Seen:
        """Of some labels, every image that is not to be learned again, or not at all.

        With thousands of labels `known` takes a while, and a task has few.
        """
        return self.seen.only(labels).joined(*(held.only(labels) for held in self.held_out.values()))

    def save(self, path: Path) -> None:
        """Write one safetensors file. The caller makes it durable and gives it its final name. Raises OSError."""
        tensors, facts = taken_apart(self.loop, self.pools, self.head)
        tensors |= {
            "features.gram": self.moments.gram,
            "features.sums": self.moments.sums,
            "features.counts": self.moments.counts,
            "features.scatter": self.moments.scatter,
        }
        tensors |= {f"drift.{number}": drift.map for number, drift in enumerate(self.drifts)}
        tensors["seen"], seen = self.seen.parts()
        parts = {task: held.parts() for task, held in self.held_out.items()}
        tensors |= {f"held_out.{task}": digests for task, (digests, _) in parts.items()}
        facts |= {
            "labels": self.moments.labels,
            "taught": dict(self.taught),
            "last": dict(self.last),
            "best": dict(self.best),
            "nearest_ratios": {task: (said.ratio, said.weight) for task, said in self.judged.items()},
            "usual": {task: asdict(said) for task, said in self.usual.items()},
            "drifts": [(drift.before, drift.after) for drift in self.drifts],
            "corrected": self.corrected,
            "changed": self.changed,
            "gone": dict(self.gone),
            "seen": seen,
            "held_out": {task: counts for task, (_, counts) in parts.items()},
        }
        write_tensors(path, tensors, facts)

    @classmethod
    def load(cls, path: Path) -> LearnerState:
        """Read what `save` wrote. Raises InvalidCheckpoint and OSError."""
        tensors, facts = read_tensors(path)
        try:
            loop, pools, head = put_together(tensors, facts)
            moments = _moments(tensors, facts)
            if not head.fits(moments.width, len(moments.labels)):
                raise ValueError("the head is not of the classes or the numbers that the moments are of")
            return cls(
                pools=pools,
                loop=loop,
                head=head,
                moments=moments,
                taught={task: tuple(labels) for task, labels in facts["taught"].items()},
                last=dict(facts["last"]),
                best=dict(facts["best"]),
                # Older stores have ratios to something else; the next task tells how sure their scores may be.
                judged={task: Sharpness(*said) for task, said in facts.get("nearest_ratios", {}).items()},
                usual={task: _usual(said) for task, said in facts["usual"].items()},
                drifts=_drifts(tensors, facts, moments.width),
                corrected=tuple(facts["corrected"]),
                # Stores from before there were orders have neither.
                changed=tuple(facts.get("changed", ())),
                gone={task: int(count) for task, count in facts.get("gone", {}).items()},
                # Stores from before images were remembered have none.
                seen=Seen.put_together(tensors.get("seen", NO_DIGESTS), facts.get("seen", {})),
                held_out={
                    task: Seen.put_together(tensors[f"held_out.{task}"], counts)
                    for task, counts in facts.get("held_out", {}).items()
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidCheckpoint(f"{path.name} is no learner state: {error}") from error


def _moments(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> ClassMoments:
    gram, sums, counts, scatter = (
        tensors[f"features.{name}"] for name in ("gram", "sums", "counts", "scatter")
    )
    return ClassMoments(gram, sums, counts, scatter, tuple(facts["labels"]))


def _drifts(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], width: int) -> tuple[Drift, ...]:
    drifts = tuple(
        Drift(before, after, tensors[f"drift.{number}"])
        for number, (before, after) in enumerate(facts["drifts"])
    )
    if any(drift.map.shape != (width, width) for drift in drifts):
        raise ValueError("a drift maps features of another width")
    return drifts


def _usual(said: Mapping[str, Any]) -> Usual:
    """What `asdict` made of one."""
    mean, square = ((float(one), float(other)) for one, other in (said["mean"], said["square"]))
    return Usual(int(said["images"]), float(said["weight"]), mean, square)
