"""Forgets one task without training: its slots leave the pools, its classes the head. The rest stays.

The covariance of the head is shared by all classes and no image can be taken out of it again, so it stays, and the
other classes keep their means. A class that another task also taught stays too, as both tasks taught it: sums of
images do not tell whose they were.

Slots of an old task also moved the features of what was learned after it. They go all the same, unless the held-out
images of the other tasks show that those have come to rest on them, or are too few to tell; then they stay, without a
class to their name. Once no class is left at all, nothing rests on anything: slots that stayed and the covariance go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeVar

from model.calibration import Sharpness
from model.moments import ClassMoments
from model.usual import Usual
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState

Kept = TypeVar("Kept")


def own_labels(state: LearnerState, task: str) -> frozenset[str]:
    """Labels that a task taught and no other."""
    others = {label for other, labels in state.taught.items() if other != task for label in labels}
    return frozenset(state.taught[task]) - others


def kept_labels(state: LearnerState, task: str) -> tuple[str, ...]:
    """Labels that a task taught and others too: these classes stay, and its images in their sums."""
    own = own_labels(state, task)
    return tuple(label for label in state.taught[task] if label not in own)


def without_classes(learner: Learner, state: LearnerState, task: str) -> LearnerState:
    """The state without a task's own classes and without what was held out of it. Its slots stay.

    Its calibration and what it measured as usual go too, unless another task keeps one of its classes: that task
    inherits them, as it does the images, which often are those it did not have to learn again.
    """
    own, heir = own_labels(state, task), heir_of(state, task)
    judged, usual = dict(state.judged), dict(state.usual)
    sharpness, strangeness = judged.pop(task, None), usual.pop(task, None)
    if heir is not None and sharpness is not None and strangeness is not None:
        judged[heir] = judged.get(heir, Sharpness()).pooled(sharpness)
        usual[heir] = Usual.pooled([usual.get(heir, Usual()), strangeness])
    return replace(
        learner.with_moments(replace(state, judged=judged, usual=usual), state.moments.without(own)),
        seen=state.seen.without(own),
        held_out=without(state.held_out, {task}),
        taught=without(state.taught, {task}),
        last=without(state.last, {task}),
        best=without(state.best, {task}),
        corrected=tuple(correction for correction in state.corrected if correction != task),
    )


def heir_of(state: LearnerState, task: str) -> str | None:
    """The newest other task that taught one of a task's classes."""
    labels = set(state.taught[task])
    return next(
        (other for other in reversed(state.tasks) if other != task and labels & set(state.taught[other])),
        None,
    )


def without(of_tasks: Mapping[str, Kept], tasks: Collection[str]) -> dict[str, Kept]:
    """What is kept of all tasks but some."""
    return {task: kept for task, kept in of_tasks.items() if task not in tasks}


def without_slots(state: LearnerState, task: str) -> LearnerState:
    """The state with a task's slots gone from the pools. Means of older tasks stay where those had moved them."""
    return replace(state, pools=state.pools.without(task))


def emptied(learner: Learner, state: LearnerState) -> LearnerState:
    """A state of no class with nothing left of those that it had: it learns on as before the first task."""
    start, moments = learner.start(), state.moments
    empty = ClassMoments.empty(moments.width, moments.scatter.shape[2])
    return replace(state, pools=start.pools, head=start.head, moments=empty, drifts=(), gone={})
