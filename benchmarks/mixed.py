"""Do answers stay sure and familiar where other kinds of images come? `python -m benchmarks.mixed`.

Teaches the head alone, on the bundled backbone, one kind of drawn images (`benchmarks.kinds`), ten of each class, then
another kind, and asks about new images of the first before and after: all thirty pairs of six kinds. Kinds vary
differently, and share one covariance. Of each it prints

* the share of right answers, and the mean score that they promise: equal if all is well;
* the share that `familiarity` puts below 0.01: one in a hundred if all is well.

The last row is of all six, taught in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import Tensor

from benchmarks.kinds.__main__ import BARE, drawn
from benchmarks.kinds.draw import KINDS
from benchmarks.machine import keep
from model.backbone import load_backbone
from model.deliberation import LoopConfig
from model.moments import label_rows
from model.network import RetrievalViT
from model.spec import BackboneSpec
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState

LEVEL = 0.01
FIRST, LATER, JUDGES = 10, 25, 25
"""Images of each class: of the kind asked about, of kinds that come later, and to ask about."""


@dataclass(frozen=True)
class Kind:
    """Features of images to learn, those of a class one after the other, and to ask about; both with their labels."""

    name: str
    taught: Tensor
    labels: tuple[str, ...]
    asked: Tensor
    truth: tuple[str, ...]

    @classmethod
    def of(cls, learner: Learner, name: str) -> Kind:
        px, pools = learner.network.backbone.px, learner.start().pools
        taught, asked = drawn(KINDS[name], LATER, px, 0), drawn(KINDS[name], JUDGES, px, 1)
        labels, truth = (tuple(f"{name}: {label}" for label in task.labels) for task in (taught, asked))
        vectors = (learner.extract(pools, task.pixels) for task in (taught, asked))
        return cls(name, next(vectors), labels, next(vectors), truth)

    def learned(self, learner: Learner, state: LearnerState, images: int) -> LearnerState:
        """A state that was taught so many images of each class, too."""
        rows = [row for row in range(len(self.labels)) if row % LATER < images]
        part = self.taught[rows], tuple(self.labels[row] for row in rows)
        return learner.learn_features(state, {self.name: part}, {})

    def judged(self, state: LearnerState) -> dict[str, float]:
        """What a state makes of new images."""
        sure, answers = state.head.logits_of_many(self.asked).softmax(dim=1).max(dim=1)
        right = answers == label_rows(self.truth, state.labels)
        unknown = state.head.familiar(self.asked) < LEVEL
        return {
            "right": right.double().mean().item(),
            "score": sure.double().mean().item(),
            "unknown": unknown.double().mean().item(),
        }


def summary(found: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Means, how far scores are off on average, and the largest share that is taken for unknown."""
    rows = list(found)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    off = float(np.mean([abs(row["score"] - row["right"]) for row in rows]))
    return {**means, "off": off, "worst": max(row["unknown"] for row in rows)}


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, a row for what was taught beside."""
    lines = [
        "| taught | right, % | score, % | off by, points | below 0.01, % | in the worst case |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in figures["rows"].items():
        shares = (row[part] for part in ("right", "score", "off", "unknown", "worst"))
        lines.append(f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")
    return "\n".join(lines)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Two kinds alone: that it runs.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to keep the figures.")] = None,
) -> None:
    """Measure, print the table, keep the figures."""
    learner = Learner(RetrievalViT(load_backbone(BackboneSpec()), LoopConfig()), BARE)
    kinds = [Kind.of(learner, name) for name in (["cells", "spectrograms"] if quick else KINDS)]
    alone = {kind.name: kind.learned(learner, learner.start(), FIRST) for kind in kinds}
    pairs = {
        f"{first.name}, then {later.name}": first.judged(later.learned(learner, alone[first.name], LATER))
        for first, later in permutations(kinds, 2)
    }
    whole = learner.start()
    for kind in kinds:
        whole = kind.learned(learner, whole, FIRST)
    rows = {
        "one kind": summary(kind.judged(alone[kind.name]) for kind in kinds),
        "another kind afterwards": summary(pairs.values()),
        "all kinds in turn": summary(kind.judged(whole) for kind in kinds),
    }
    figures = {"first": FIRST, "later": LATER, "judges": JUDGES, "rows": rows, "pairs": pairs}
    typer.echo(table(figures))
    keep(figures, out)


if __name__ == "__main__":
    typer.run(main)
