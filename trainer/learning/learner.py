"""Learns one task at a time: a state and a task go in, a state comes out.

Two speeds, as in complementary learning systems. `learn_fast` adds a task's features to the streaming head, in
closed form. `consolidate` also grows the pools by the task's own slots, trains them, carries the statistics of older
classes along with the features the new slots have moved, and solves the head anew. Both keep moments, never images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import reduce
from itertools import chain

import torch
from torch import Tensor

from model.calibration import assumed_sharpness, fit_sharpness
from model.checkpoint import Checkpoint, feature_space
from model.head import Discriminant
from model.left_out import LeftOut
from model.moments import ClassMoments, fit_drift, label_rows
from model.pools import Pools
from model.usual import Spread, Usual, measure_usual, solve_familiarity
from trainer.learning.describer import Between, Describer, go_on
from trainer.learning.epochs import Diverged, EpochState, Progress, TaskTraining
from trainer.learning.feature_cache import Said
from trainer.learning.state import Drift, LearnerState
from trainer.learning.task import Task

KEPT_DRIFTS = 8
"""Consolidations that a feature can be followed over: each adds a map [F, F] to the state."""
OBSERVED = 1024
"""Images added to the moments at once: a second of work on a wide backbone."""


class Learner(Describer):
    """Learns tasks on one backbone. What it answers depends on settings, the frozen network and what it is given.

    How long that takes depends on its cache, too.
    """

    def start(self) -> LearnerState:
        """The state before the first task."""
        return LearnerState.start(self.network.backbone, self.network.loop, self.config.sketch)

    def resumed(self, state: LearnerState) -> LearnerState:
        """A stored state, to go on from in this network's loop.

        Raises ValueError where its slots were trained in another. They would recall something else there, so that no
        image of the classes known would lie where their means are. While there are no slots, any loop does.
        """
        loop, before = self.network.loop, state.loop
        if before == loop:
            return state
        if state.pools.slots:
            ours, theirs = asdict(loop), asdict(before)
            changed = [
                f"{name} {theirs[name]} and not {ours[name]}" for name in ours if ours[name] != theirs[name]
            ]
            raise ValueError(f"its slots were trained with {', '.join(changed)} as here")
        return replace(state, loop=loop, pools=Pools.empty(loop, self.network.backbone.dim))

    def learn_fast(self, state: LearnerState, task: Task) -> LearnerState:
        """Add a task to the head alone; the pools stay as they are, and the task does not count as learned for good.

        Weight and bias are the same for any order of tasks and images; how sharp scores are depends on it a little.
        Images that the state knows under the same label are not added again.
        """
        new = self.unseen(state, task)
        return state if new is None else self.learn_part(state, new)

    def learn_all_fast(self, state: LearnerState, tasks: Sequence[Task]) -> LearnerState:
        """Add several tasks to the head alone, and solve it once; weight and bias are those of one by one.

        A task that was learned before, under the same pools, need not judge this head: what it said then counts. Else
        each consolidation would have every task that waits judge the new head.
        """
        parts = self.unseen_parts(state, tasks)
        said = {part.id: known for part in parts if (known := self.cache.said(state.pools, part))}
        if len(parts) == 1 and not said:
            return self.learn_part(state, parts[0])
        return self.learn_parts(state, parts, said) if parts else state

    def learn_part(self, state: LearnerState, part: Task) -> LearnerState:
        """The state with the head of a task whose images are all new.

        A task that is consolidated by the head alone, with nothing else on top, takes the head that is served already.
        """
        learned = self.cache.learned(state, part) or self.learn_parts(state, [part], {})
        self.cache.keep_learned(state, part, learned)
        return learned

    def learn_parts(
        self, state: LearnerState, parts: Sequence[Task], said: Mapping[str, Said]
    ) -> LearnerState:
        """The same of several tasks, solved once.  said: see `learn_features`."""
        taken = {part.id: (self.described(state.pools, part), part.labels) for part in parts}
        learned = self.learn_features(reduce(LearnerState.having_seen, parts, state), taken, said)
        for part in parts:
            self.cache.keep_said(state.pools, part, Said(learned.judged[part.id], learned.usual[part.id]))
        return learned

    def consolidate(
        self,
        state: LearnerState,
        task: Task,
        progress: Progress | None = None,
        on_epoch: Callable[[EpochState], None] | None = None,
        resume: EpochState | None = None,
        between: Between = go_on,
    ) -> LearnerState:
        """Learn a task for good, starting from the state before it (not from its fast version).

        With slots of its own where `trains_pools` says so, and then old classes follow the drift map from features
        before to those after (`fit_drift`); else by `consolidate_head`.

        progress may raise to abandon the task.  on_epoch receives what `resume` takes to continue after that epoch
        as if never interrupted.  between: called before each batch whose features are taken.  Raises Diverged.
        """
        new = self.unseen(state, task)
        if new is None or not self.trains_pools(state, new):
            return self.consolidate_head(state, task)
        before = self.described(state.pools, new, between)
        training = TaskTraining(self.network, self.config, state, new, before)
        pools = training.run(progress, on_epoch, resume)
        after = self.described(pools, new, between)
        if not after.isfinite().all():  # no loss comes after the last update to show that it was one too many
            raise Diverged("features under the trained slots are not finite")
        self.pause()
        drift = fit_drift(before, after, self.config.drift_ridge)
        step = Drift(self.space(state.pools), self.space(pools), drift)
        means = state.moments.means  # of older classes: they follow, their covariance stays as observed
        moments = state.moments.shifted(means @ drift.double() - means)
        drifts = (*state.drifts, step)[-KEPT_DRIFTS:]
        carried = replace(state, pools=pools, moments=moments, drifts=drifts)
        learned = self.learn_features(carried, {task.id: (after, new.labels)}, {}).having_seen(new)
        return learned.having_learned(task.id, task.labels)

    def consolidate_head(self, state: LearnerState, task: Task) -> LearnerState:
        """Learn a task for good with the head alone, which moves no feature of any other class."""
        return self.learn_fast(state, task).having_learned(task.id, task.labels)

    def unseen(self, state: LearnerState, task: Task) -> Task | None:
        """The part of a task that a state does not know under the same labels; itself, where that is all of it.

        None where there is none. As long as the task lives and it is the same images, it is the same part.
        """
        new = state.known_of(task.labels).new(task.labels, task.digests)
        if new.all():
            return task
        return self.cache.part(task, new) if new.any() else None

    def unseen_parts(self, state: LearnerState, tasks: Sequence[Task]) -> list[Task]:
        """What of each task neither a state nor the tasks before it know; see `unseen`."""
        parts = []
        for task in tasks:
            if new := self.unseen(state, task):
                parts.append(new)
                state = state.having_seen(new)
        return parts

    def trains_pools(self, state: LearnerState, task: Task) -> bool:
        """Whether a task brings slots.

        A single class has nothing to be told apart from, unless its images are (`few_classes`), and a few images say
        too little about later ones. Once the pools were taught enough classes they fit the kind of images that come
        here: slots of later tasks gained no more than the drift they caused cost. The exception is a task much larger
        than all before it together.
        """
        images, config = len(task.labels), self.config
        telling = images >= config.least_images and (len(set(task.labels)) > 1 or config.few_classes > 1)
        taught = state.pool_classes
        # How many classes a task had that was forgotten is forgotten too; all that is known rests on its slots.
        settled = taught >= config.settled or not set(state.pools.slot_tasks) <= set(state.tasks)
        outweighed = state.pools.slots > 0 and images >= config.outweigh * state.images
        return config.epochs > 0 and telling and (not settled or outweighed)

    def learn_features(
        self,
        state: LearnerState,
        seen: Mapping[str, tuple[Tensor, tuple[str, ...]]],
        said: Mapping[str, Said],
    ) -> LearnerState:
        """Add features [n, F] and labels of tasks, by id, to the statistics, and solve the head anew.

        Each of the tasks says how sharp that head is (`fit_sharpness`) and how strange images usually look to it
        (`measure_usual`), judged by its own images as if they had been left out.  said: by some of them, by id, of a
        head before, which counts instead.
        """
        taken, named = zip(*seen.values(), strict=True)
        found = self.solve(
            self.accumulated(state.moments, torch.cat(taken), tuple(chain.from_iterable(named)))
        )
        spread, known = Spread.of(found), found.moments.labels
        judged, usual = dict(state.judged), dict(state.usual)
        for task, (features, labels) in seen.items():
            if task in said:
                judged[task], usual[task] = said[task]
                continue
            self.pause()
            left_out = LeftOut.of(found, features, label_rows(labels, known))
            judged[task] = fit_sharpness(found, left_out)
            usual[task] = measure_usual(found, spread, left_out)
        return self.with_head(replace(state, judged=judged, usual=usual), found, spread)

    def observe(self, state: LearnerState, features: Tensor, labels: tuple[str, ...]) -> LearnerState:
        """Add labelled features [n, F], of no task, to the statistics, and solve the head anew. They judge nothing."""
        return self.with_moments(state, self.accumulated(state.moments, features, labels))

    def accumulated(self, moments: ClassMoments, features: Tensor, labels: tuple[str, ...]) -> ClassMoments:
        """The moments with labelled features [n, F], `OBSERVED` of them at a time."""
        for start in range(0, len(labels), OBSERVED):
            self.pause()
            rows = slice(start, start + OBSERVED)
            moments = moments.observe(features[rows], labels[rows])
        return moments

    def with_moments(self, state: LearnerState, moments: ClassMoments) -> LearnerState:
        """The state with other moments, and the head solved from them; what tasks said of earlier ones stays."""
        found = self.solve(moments)
        return self.with_head(state, found, Spread.of(found))

    def with_head(self, state: LearnerState, found: Discriminant, spread: Spread | None) -> LearnerState:
        """The state with a discriminant's moments and its head.

        That is as sharp as the tasks say, and measures what is familiar by what they say is usual. spread: of `found`.
        """
        sharpness = state.sharpness.ratio * assumed_sharpness(found.moments.means, found.weight)
        familiarity = solve_familiarity(found, spread, Usual.pooled(state.usual.values()))
        head = replace(found.head(sharpness), familiarity=familiarity)
        return replace(state, moments=found.moments, head=head)

    def solve(self, moments: ClassMoments) -> Discriminant:
        """What the head is made of, with the shrinkage configured, or found."""
        return Discriminant.of(moments, self.config.shrinkage, self.pause)

    def space(self, pools: Pools) -> str:
        """Where features under some pools lie; see `feature_space`."""
        return feature_space(self.network.backbone.identity, self.network.loop, pools)

    def checkpoint(self, state: LearnerState) -> Checkpoint:
        """What a server needs of a state."""
        network, labels = self.network, state.labels
        return Checkpoint(network.backbone.identity, network.loop, state.pools, state.head, labels)
