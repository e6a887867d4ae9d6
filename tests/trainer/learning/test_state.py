from __future__ import annotations

from pathlib import Path

import pytest

from model.checkpoint import InvalidCheckpoint, read_tensors, write_tensors
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task

DIMENSIONS = {
    "features.gram": (0, 1),
    "features.sums": (0, 1),
    "features.counts": (0,),
    "features.scatter": (0, 1),
    "head.weight": (0, 1),
    "head.bias": (0,),
    "head.directions": (0, 1, 2),
    "head.offsets": (0, 1),
    "familiarity.origin": (0,),
    "familiarity.centres": (0, 1),
    "familiarity.usual": (0, 1),
    "drift.0": (0, 1),
}
"""Those that others have, too. A sketch may have any number of columns."""


def test_parts_that_do_not_fit_each_other_are_refused(
    learner: Learner, first: Task, second: Task, tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    learner.consolidate(learner.consolidate(learner.start(), first), second).save(path)
    tensors, facts = read_tensors(path)
    damaged = [({name: tensors[name].sum()}, {}) for name in DIMENSIONS]  # numbers, where arrays belong
    for name, dimensions in DIMENSIONS.items():
        damaged += [({name: tensors[name].narrow(dim, 0, 1)}, {}) for dim in dimensions]
    damaged += [({"seen": tensors["seen"].double()}, {}), ({}, {"seen": {"ant": 1}})]
    damaged += [({}, {"labels": facts["labels"][1:]}), ({}, {"loop": facts["loop"] | {"layers": [1, 2]}})]
    for other_tensors, other_facts in damaged:
        write_tensors(path, tensors | other_tensors, facts | other_facts)
        with pytest.raises(InvalidCheckpoint, match="is no learner state"):
            LearnerState.load(path)


def test_a_state_from_before_images_were_remembered_is_built_on(
    learner: Learner, first: Task, tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    learner.consolidate_head(learner.start(), first).save(path)
    tensors, facts = read_tensors(path)
    older = {name: tensor for name, tensor in tensors.items() if name != "seen"}
    write_tensors(path, older, {name: fact for name, fact in facts.items() if name != "seen"})
    state = LearnerState.load(path)
    assert len(state.seen) == 0
    assert state.images == len(first.labels)
