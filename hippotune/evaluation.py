"""How well a server answers images whose labels are known, class by class."""

from __future__ import annotations

import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hippotune.calls import Ask
from hippotune.client import Client
from hippotune.errors import HippoTuneError, Refused
from hippotune.latency import gather
from hippotune.packing import Source, Unfit
from hippotune.records import Classification

OF_ONE_IMAGE = (400, 413, 415, 422, 504)
"""Refusals that another image need not meet with."""
STRANGE = 0.01
"""Familiarity below which an image is best treated as being of no known class."""


@dataclass(frozen=True, slots=True)
class ClassResult:
    """How the images of one label were answered.

    right: share answered with it.  score: mean score of the answers, right or wrong.
    taken_for: other labels that they were answered with, and how often, the most frequent first.
    """

    label: str
    images: int
    right: float
    score: float
    taken_for: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """An image that was not answered, and why."""

    image: str
    detail: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a source was answered; shares are 0..1.

    images: answered.  right: share answered with their label.  class_right: mean of that over labels, each counting
    alike.  score: mean score of the answers; above `right` they are too sure.  strange: share of a familiarity below
    STRANGE; None where the versions cannot tell.
    versions: that answered.  untaught: labels that none of these knows, whose images cannot be right.
    classes: worst first.  problems: images that were not answered.
    """

    images: int
    right: float
    class_right: float
    score: float
    strange: float | None
    versions: tuple[int, ...]
    untaught: tuple[str, ...]
    classes: tuple[ClassResult, ...]
    problems: tuple[Problem, ...]


def evaluate(
    client: Client, source: Source, ask: Ask, concurrency: int, advance: Callable[[], None] = lambda: None
) -> Evaluation:
    """Ask a server about every image of a source, some at the same time, and compare its answers with the labels.

    advance: called after each.  Raises HippoTuneError when the server refuses for another reason than an image, or
    when no image can be answered.
    """

    def answer(turn: int) -> Classification | Problem:
        row = source.rows[turn]
        try:
            return client.classify(source.image(row), **ask)
        except Refused as error:
            if error.status not in OF_ONE_IMAGE:
                raise
            return Problem(str(source.file(row) or row), str(error.problem.get("detail", "refused")))
        except (Unfit, OSError) as error:
            return Problem(str(source.file(row) or row), str(error))
        finally:
            advance()

    found = gather(answer, len(source.rows), concurrency)
    labels = [as_kept(source.labels[row]) for row in source.rows]
    answers = [
        (label, each) for label, each in zip(labels, found, strict=True) if isinstance(each, Classification)
    ]
    problems = tuple(each for each in found if isinstance(each, Problem))
    if not answers:
        raise HippoTuneError(f"none of {len(labels)} images was answered: {problems[0].detail}")
    versions = sorted({each.version for _, each in answers})
    known = {label for version in versions for label in client.version(version).labels}
    return compared(answers, problems, tuple(versions), known)


def compared(
    answers: Sequence[tuple[str, Classification]],
    problems: tuple[Problem, ...],
    versions: tuple[int, ...],
    known: set[str],
) -> Evaluation:
    """What answers, each with the true label of its image, say. known: labels of the versions."""
    of_label: dict[str, list[Classification]] = defaultdict(list)
    for label, each in answers:
        of_label[label].append(each)
    classes = [class_result(label, each) for label, each in of_label.items()]
    return Evaluation(
        images=len(answers),
        right=sum(each.label == label for label, each in answers) / len(answers),
        class_right=statistics.fmean(each.right for each in classes),
        score=mean_score(each for _, each in answers),
        strange=strange_share(each.familiarity for _, each in answers),
        versions=versions,
        untaught=tuple(sorted(of_label.keys() - known)),
        classes=tuple(sorted(classes, key=lambda each: (each.right, -each.images, each.label))),
        problems=problems,
    )


def strange_share(familiarities: Iterable[float | None]) -> float | None:
    """The share of those told that lie below `STRANGE`; None where none was."""
    told = [familiarity for familiarity in familiarities if familiarity is not None]
    return statistics.fmean(familiarity < STRANGE for familiarity in told) if told else None


def as_kept(label: str) -> str:
    """A label as a server keeps it, however files or tables spell it."""
    return unicodedata.normalize("NFC", label.removeprefix("\ufeff")).strip()


def class_result(label: str, answers: Sequence[Classification]) -> ClassResult:
    """What the answers to the images of one label say."""
    named = Counter(each.label for each in answers if each.label is not None)
    right = named.pop(label, 0)
    return ClassResult(
        label, len(answers), right / len(answers), mean_score(answers), dict(named.most_common())
    )


def mean_score(answers: Iterable[Classification]) -> float:
    """The mean score of the best labels; a version that knows no class names none."""
    return statistics.fmean(each.predictions[0].score if each.predictions else 0.0 for each in answers)
