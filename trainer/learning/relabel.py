"""Renames, merges and forgets classes without training: exact, and no other class moves.

A class is a mean, a count and a sketch of its spread, so that another name changes no score, two classes add up to what
they would be had they been taught as one, and a class that is forgotten takes its mean along. What is shared by all
classes stays, as when a task is forgotten: the covariance, and the slots, which belong to tasks. Only where no class is
left at all does all of that go, too: see `trainer.learning.forget`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trainer.learning.forget import emptied, without
from trainer.learning.learner import Learner
from trainer.learning.seen import Seen
from trainer.learning.state import LearnerState


def changed(learner: Learner, state: LearnerState, label: str, becomes: str | None) -> LearnerState:
    """The state with a class renamed or merged, or forgotten if it becomes None. Raises ValueError for one unknown."""
    if label not in state.labels:
        raise ValueError(f"no class is called {label!r}")
    if becomes is None:
        return without_class(learner, state, label)
    return renamed(learner, state, label, becomes)


def renamed(learner: Learner, state: LearnerState, label: str, becomes: str) -> LearnerState:
    """The state with a class called otherwise; with two classes as one, where another is called that already.

    An image that was taught under both labels counts twice in the sums of the one: they do not tell which it is.
    """
    left = replace(
        state,
        seen=state.seen.renamed(label, becomes),
        held_out=held_out(state, lambda held: held.renamed(label, becomes)),
        taught={task: renamed_label(labels, label, becomes) for task, labels in state.taught.items()},
    )
    if becomes not in state.labels:
        return replace(left, moments=state.moments.renamed(label, becomes))
    left = replace(left, gone=counted(state, left, label))
    return learner.with_moments(left, state.moments.merged(label, becomes))


def renamed_label(labels: tuple[str, ...], label: str, becomes: str) -> tuple[str, ...]:
    """Labels, each once, with one of them called otherwise."""
    return tuple(dict.fromkeys(becomes if known == label else known for known in labels))


def without_class(learner: Learner, state: LearnerState, label: str) -> LearnerState:
    """The state without a class, and without what the tasks said and knew that taught nothing else.

    Those stay tasks that were learned, so that none is learned again, and each can be forgotten with its slots.
    """
    taught = {
        task: tuple(known for known in labels if known != label) for task, labels in state.taught.items()
    }
    of_it_alone = {task for task, labels in state.taught.items() if labels == (label,)}
    left = replace(
        state,
        seen=state.seen.without({label}),
        held_out=held_out(state, lambda held: held.without({label})),
        taught=taught,
        judged=without(state.judged, of_it_alone),
        usual=without(state.usual, of_it_alone),
        last=without(state.last, of_it_alone),
        best=without(state.best, of_it_alone),
    )
    left = replace(left, gone=counted(state, left, label))
    left = learner.with_moments(left, state.moments.without(frozenset({label})))
    return left if left.labels else emptied(learner, left)


def counted(before: LearnerState, after: LearnerState, label: str) -> dict[str, int]:
    """`LearnerState.gone` once a class is no more: if the pools were taught it, they were taught as many all the same.

    Else slots would be trained again for the next small task, and move every feature.
    """
    taught_it = [task for task in before.tasks if label in before.taught[task]]
    owners = [task for task in taught_it if task in before.pools.slot_tasks]
    fewer = len(before.pool_labels) - len(after.pool_labels)
    gone = dict(before.gone)
    if owners:
        gone[owners[-1]] = gone.get(owners[-1], 0) + fewer
    return gone


def held_out(state: LearnerState, change: Callable[[Seen], Seen]) -> dict[str, Seen]:
    """What is held out of each task, changed; without the tasks of which nothing is left."""
    held = {task: change(seen) for task, seen in state.held_out.items()}
    return {task: seen for task, seen in held.items() if len(seen)}
