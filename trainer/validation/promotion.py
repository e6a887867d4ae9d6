"""Decides what may be served: a consolidated state is measured, and left out if it costs earlier tasks too much."""

from __future__ import annotations

from dataclasses import replace

import structlog

from exchange.records import LabelChange
from model.checkpoint import InvalidCheckpoint
from trainer.learning.config import ValidationConfig
from trainer.learning.describer import Between, go_on
from trainer.learning.forget import emptied, without_classes, without_slots
from trainer.learning.learner import Learner
from trainer.learning.relabel import changed
from trainer.learning.state import LearnerState
from trainer.learning.task import Task
from trainer.store.validation_shelf import ValidationShelf
from trainer.validation.held_out import validate
from trainer.validation.report import Report, rests_on

log = structlog.get_logger()


class Refused(Exception):
    """A task must not be served; the message says why."""


class Promotion:
    """The gate between learning and serving."""

    def __init__(self, learner: Learner, shelf: ValidationShelf, config: ValidationConfig) -> None:
        self.learner, self.shelf, self.config = learner, shelf, config

    def examine(
        self, built_on: LearnerState, state: LearnerState, task: Task, between: Between = go_on
    ) -> tuple[LearnerState, Report]:
        """What to serve of a task, and how good it is: with its slots, else by the head alone. Raises Refused."""
        built_on = self.judged(built_on, between)
        state = replace(state, last=built_on.last)
        try:
            report = self.measure(built_on, state, between)
        except Refused as error:
            if state.pools.slots == built_on.pools.slots:
                raise  # learned by the head alone already
            log.warning("new slots left out", task=task.id, reason=str(error))
            state = self.learner.consolidate_head(built_on, task)
            report = self.measure(built_on, state, between)
        return report.noted(state), report

    def judged(self, state: LearnerState, between: Between = go_on) -> LearnerState:
        """The state with what its tasks know, measured now if it was not since it last changed."""
        return state if state.last else replace(state, last=self.report(state, state.labels, between).now)

    def measure(self, built_on: LearnerState, state: LearnerState, between: Between = go_on) -> Report:
        """Raises Refused when a state is damaged or costs earlier tasks too much."""
        try:
            self.learner.checkpoint(state).check()
        except InvalidCheckpoint as error:
            raise Refused(str(error)) from error
        report = self.report(state, built_on.labels, between)
        reason = report.refusal(self.config)
        if reason:
            raise Refused(reason)
        return report

    def forget(self, state: LearnerState, task: str, between: Between = go_on) -> tuple[LearnerState, Report]:
        """The state without a task; its slots stay where other tasks have come to rest on them, as long as any class
        is left."""
        left = without_classes(self.learner, self.judged(state, between), task)
        if not left.labels:
            left = emptied(self.learner, left)
            report = self.report(left, (), between)
            return report.noted(left), report
        bare = without_slots(left, task)
        before, after = (self.report(one, left.labels, between) for one in (left, bare))
        if bare.pools.slots < left.pools.slots and rests_on(state, task, before, after):
            log.warning("other tasks need the slots of a forgotten one, they stay", task=task)
            return before.noted(left), before
        return after.noted(bare), after

    def change(
        self, state: LearnerState, change: LabelChange, between: Between = go_on
    ) -> tuple[LearnerState, Report]:
        """The state with a class renamed, merged with another or forgotten; no image can refuse that."""
        left = changed(self.learner, state, change.label, change.becomes)
        report = self.report(left, left.labels, between)
        return report.noted(left), report

    def report(self, state: LearnerState, known: tuple[str, ...], between: Between = go_on) -> Report:
        """See `validate`."""
        return validate(self.learner, state, self.shelf, self.config, known, between)
