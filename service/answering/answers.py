"""What /classify answers: the record for the API document, and the dictionary that is really sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from service.answering.trace import LayerTraceAnswer, trace
from service.engine.snapshot import Snapshot
from service.engine.tickets import Scored

MILLI = 1000


class Prediction(BaseModel):
    label: str = Field(description="As it was taught, trimmed and in Unicode's normal form C.")
    score: float = Field(description="Probability among all labels the version knows.")


class BudgetAnswer(BaseModel):
    tmax: int = Field(description="Most retrieval steps a layer.")
    epsilon: float = Field(description="A step that moves the recall by less is the last; 0: none is.")
    topk: int = Field(description="Slots that a step mixed.")
    keep: float = Field(description="Share of the image tokens still apart after the middle.")


class Timings(BaseModel):
    """Milliseconds. What `total` has beyond the others went into writing the answer."""

    read: float = Field(description="From the request's head to the end of its body.")
    decode: float = Field(description="From encoded bytes to pixels.")
    queue: float = Field(description="Waiting for the engine.")
    compute: float = Field(description="The forward passes this image's request took part in.")
    total: float = Field(description="From the request's head until just before the answer was sent.")


class Classification(BaseModel):
    """One image's answer."""

    id: str = Field(
        description="Names this answer in POST /feedback, for as long as the server remembers it. "
        "An answer within a budget of its own cannot be corrected."
    )
    predictions: list[Prediction] = Field(description="Best first.")
    familiarity: float | None = Field(
        description="About this share of images of known classes looks at least as unusual: near 0, the image is "
        "probably of an unknown class. Null where the version cannot tell: with one class, or if most classes have a "
        "single image."
    )
    version: int = Field(description="The version that answered.")
    budget: BudgetAnswer = Field(description="As really granted.")
    steps: list[int] = Field(description="Retrieval steps really run, a number a layer; empty without slots.")
    timings_ms: Timings = Field(description="Where the time went.")
    trace: list[LayerTraceAnswer] | None = Field(None, description="Only with explain=true.")


class Classifications(BaseModel):
    """Several images' answers, in the order of the files, all by one version."""

    results: list[Classification] = Field(description="One for each file.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request wants to see. labels: only these, all of them; None is the best `top` of all."""

    labels: tuple[str, ...] | None
    top: int
    explain: bool


@dataclass(slots=True)
class Clock:
    """Seconds a request spent in each stage. began: perf_counter at its head."""

    began: float
    read: float = 0.0
    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0

    def timings_ms(self, now: float) -> dict[str, float]:
        return {
            "read": self.read * MILLI,
            "decode": self.decode * MILLI,
            "queue": self.queue * MILLI,
            "compute": self.compute * MILLI,
            "total": (now - self.began) * MILLI,
        }


def classification(
    snapshot: Snapshot, scored: Scored, wanted: Wanted, timings_ms: dict[str, float], id_: str
) -> dict[str, Any]:
    """One image's answer, as `Classification` describes it."""
    answer = {
        "id": id_,
        "predictions": predictions(snapshot, scored.output.scores[scored.row], wanted),
        "familiarity": number_or_none(scored.output.familiarity[scored.row]),
        "version": snapshot.version,
        "budget": scored.budget,
        "steps": scored.output.steps[scored.row].tolist(),
        "timings_ms": timings_ms,
    }
    if wanted.explain:
        answer["trace"] = trace(snapshot.slot_tasks, scored.output, scored.row)
    return answer


def number_or_none(value: np.float32) -> float | None:
    """A number, None for NaN."""
    return None if np.isnan(value) else float(value)


def predictions(snapshot: Snapshot, scores: NDArray[np.float32], wanted: Wanted) -> list[dict[str, Any]]:
    """The labels asked for with their scores [C], best first; equal ones in the version's order, however many are asked
    for."""
    if wanted.labels is not None:
        # A label may be missing here when the version changed after the request was checked.
        known = sorted(snapshot.columns[label] for label in wanted.labels if label in snapshot.columns)
        columns = np.array(known, dtype=np.intp)
        top = len(known)
    elif wanted.top < len(scores):
        columns = np.flatnonzero(scores >= np.partition(scores, -wanted.top)[-wanted.top])
        top = wanted.top
    else:
        columns = np.arange(len(scores))
        top = len(scores)
    columns = columns[np.argsort(-scores[columns], kind="stable")][:top]
    best = zip(columns.tolist(), scores[columns].tolist(), strict=True)
    return [{"label": snapshot.labels[column], "score": score} for column, score in best]
