"""What a server answers, as typed records. Fields a newer server adds are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

ENDED = frozenset({"consolidated", "failed", "cancelled", "forgotten"})
"""States a task does not leave by itself."""

LOST = frozenset({"failed", "cancelled", "forgotten"})
"""States in which a task's classes are not, or no longer, known."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label and its probability, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget that an answer was computed within.

    tmax: most loop steps.  epsilon: a step that moves the recall by less is the last.  topk: slots recalled a step.
    keep: share of image tokens that were still apart after the transformer's middle; 1 merged none.
    """

    tmax: int
    epsilon: float
    topk: int
    keep: float = 1.0


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in milliseconds."""

    read: float
    decode: float
    queue: float
    compute: float
    total: float


@dataclass(frozen=True, slots=True)
class MixedSlot:
    """A slot that a step recalled: its place in the pool, the id of the task that brought it, its share."""

    slot: int
    task: str
    weight: float


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What one layer recalled, with an entry for each step that was taken.

    layer: counted from 1.
    steps: the slots that each mixed, best first; their weights sum to 1.
    moved: how far each moved the recall, which is what `epsilon` is compared with; 0 for the first.
    cosines: of each step's query with the first one.
    path: the queries on the plane that keeps most of their way, the first at (0, 0).
    """

    layer: int
    steps: tuple[tuple[MixedSlot, ...], ...]
    moved: tuple[float, ...]
    cosines: tuple[float, ...]
    path: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """From the JSON of a layer's trace."""
        return cls(
            layer=answer["layer"],
            steps=tuple(
                tuple(MixedSlot(**_known(MixedSlot, slot)) for slot in step) for step in answer["steps"]
            ),
            moved=tuple(answer["moved"]),
            cosines=tuple(answer["cosines"]),
            path=tuple((x, y) for x, y in answer["path"]),
        )


@dataclass(frozen=True, slots=True)
class Classification:
    """One image's answer.

    id: names the answer in `feedback`, for as long as the server remembers it; one within a budget of its own cannot
        be corrected.
    predictions: best first; empty when the version knows no class.
    familiarity: about this share of the images of known classes looks so strange, so near 0 for what is of none;
        None where the version cannot tell.
    version: what answered.
    steps: loop steps really run in each retrieval layer.
    timings_ms: of the whole request, where it was of many images.
    trace: what each layer recalled, if `explain` was asked for; else None.
    """

    id: str
    predictions: tuple[Prediction, ...]
    version: int
    budget: Budget
    steps: tuple[int, ...]
    timings_ms: Timings
    trace: tuple[LayerTrace, ...] | None = None
    familiarity: float | None = None

    @property
    def label(self) -> str | None:
        """The best label, None when no class is known."""
        return self.predictions[0].label if self.predictions else None

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """From the JSON of POST /classify."""
        trace = answer.get("trace")
        return cls(
            id=answer["id"],
            predictions=tuple(Prediction(p["label"], p["score"]) for p in answer["predictions"]),
            version=answer["version"],
            budget=Budget(**_known(Budget, answer["budget"])),
            steps=tuple(answer["steps"]),
            timings_ms=Timings(**_known(Timings, answer["timings_ms"])),
            trace=None if trace is None else tuple(LayerTrace.parse(layer) for layer in trace),
            familiarity=answer.get("familiarity"),
        )


@dataclass(frozen=True, slots=True)
class LabelChange:
    """An order to rename a class or, where `becomes` is None, to forget it.

    becomes: a label that is known already makes one class of the two.
    """

    label: str
    becomes: str | None


@dataclass(frozen=True, slots=True)
class Task:
    """A batch of labelled images on its way into the model, or an order about one class.

    state: queued, learning, served, consolidating, consolidated, failed, cancelled, forgetting or
        forgotten.
    progress: 0 to 1.  version: the newest version that carries it.  Times are unix seconds.
    change: what an order does, which brings no images; None of every other task.
    """

    id: str
    state: str
    images: int
    labels: tuple[str, ...]
    name: str = ""
    progress: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    version: int | None = None
    created_at: float | None = None
    updated_at: float | None = None
    served_at: float | None = None
    consolidated_at: float | None = None
    change: LabelChange | None = None

    @property
    def ended(self) -> bool:
        """True when nothing more will happen to it by itself."""
        return self.state in ENDED

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """From the JSON of a task."""
        change = answer.get("change")
        read = {
            "labels": tuple(answer["labels"]),
            "change": None if change is None else LabelChange(change["label"], change["becomes"]),
        }
        return cls(**_known(cls, answer) | read)


@dataclass(frozen=True, slots=True)
class Label:
    """A class that a version knows.

    images: how many taught it.  tasks: ids of the tasks that did. None in versions from before that was noted.
    """

    label: str
    images: int | None
    tasks: tuple[str, ...] | None

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """From the JSON of a label."""
        tasks = answer["tasks"]
        return cls(answer["label"], answer["images"], None if tasks is None else tuple(tasks))


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable state of the model.

    kind: "fast" (its newest tasks are in the head only) or "consolidated" (all learned for good).
    consolidated, fast: ids of the tasks learned fully, and in the head only.
    label_count: how many labels it knows, be they left out of `labels` or not.
    current: whether the pointer is at it.
    canary: the share of requests that it is tried on.  new_label_count: how many labels the version before it does not
        know.  new_labels: the first of those. Told in a list alone; None and empty elsewhere.
    """

    version: int
    kind: str
    labels: tuple[str, ...]
    consolidated: tuple[str, ...]
    fast: tuple[str, ...]
    parent: int | None = None
    slots: int = 0
    created_at: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    current: bool = False
    canary: float | None = None
    label_count: int = 0
    new_label_count: int | None = None
    new_labels: tuple[str, ...] = ()

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """From the JSON of a version."""
        answer = {"new_labels": (), "label_count": len(answer["labels"]), **answer}
        tuples = {name: tuple(answer[name]) for name in ("labels", "consolidated", "fast", "new_labels")}
        return cls(**_known(cls, answer) | tuples)


def _known(record: type[Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in record.__slots__ if name in answer}
