from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.continual.data import Encoded, choose, load
from benchmarks.continual.methods import RECIPES
from benchmarks.continual.protocols import SCENARIO_CONDITIONS, Protocol
from benchmarks.continual.runner import configure, stream
from benchmarks.continual.streams import after_trial, class_incremental, domain_incremental
from benchmarks.continual.superclasses import SUPERCLASSES
from tests.benchmarks.continual.conftest import LABELS, TEST, TRAIN
from tests.hippotune.conftest import ROOT
from trainer.learning.config import LearnerConfig

DATA = ROOT.parent / "shared" / "data"


def bytes_of(subsets: tuple) -> set[bytes]:
    return {subset.source.read(row) for subset in subsets for row in subset.rows}


def test_no_judge_is_learned(folder: Path) -> None:
    sources = load(f"imagefolder:{folder}", Path())
    for split in ("test", "validation"):
        data = choose(*sources, 5, 3, split)
        assert not bytes_of(data.train) & bytes_of(data.test)
        assert [len(subset.rows) for subset in data.train] == [5] * len(LABELS)
        assert [len(subset.rows) for subset in data.test] == [3] * len(LABELS)


def test_validation_never_touches_test_images(folder: Path) -> None:
    train, test = load(f"imagefolder:{folder}", Path())
    data = choose(train, test, 5, 3, "validation")
    forbidden = {test.read(row) for row in range(len(test.labels))}
    assert not (bytes_of(data.train) | bytes_of(data.test)) & forbidden


def test_all_images_leave_a_tenth_for_validation(folder: Path) -> None:
    train, test = load(f"imagefolder:{folder}", Path())
    data = choose(train, test, None, 2, "validation")
    assert [len(subset.rows) for subset in data.train] == [TRAIN - 2] * len(LABELS)
    everything = choose(train, test, None, None, "test")
    assert [len(subset.rows) for subset in everything.test] == [TEST] * len(LABELS)


def test_too_few_images_are_refused(folder: Path) -> None:
    sources = load(f"imagefolder:{folder}", Path())
    with pytest.raises(ValueError, match="too few images"):
        choose(*sources, TRAIN, 2, "validation")


def test_seed_zero_has_the_usual_class_order(folder: Path) -> None:
    data = choose(*load(f"imagefolder:{folder}", Path()), None, None, "test")
    order = [name for task in class_incremental(data, 3, seed=0) for name in dict.fromkeys(task.train.names)]
    assert order == [LABELS[i] for i in np.random.default_rng(1993).permutation(len(LABELS))]
    other = [name for task in class_incremental(data, 3, seed=1) for name in dict.fromkeys(task.train.names)]
    assert sorted(other) == sorted(order)
    assert other != order


def test_a_joint_run_learns_all_tasks_as_one(protocol: Protocol) -> None:
    apart = stream(protocol, 0, joint=False, limit=None)
    together = stream(protocol, 0, joint=True, limit=None)
    assert together[0].train.rows == sum((task.train.rows for task in apart), ())
    assert [task.test.rows for task in together] == [task.test.rows for task in apart]


def test_every_class_is_in_one_task(protocol: Protocol) -> None:
    tasks = stream(replace(protocol, tasks=4), 0, joint=False, limit=None)
    names = [set(task.train.names) for task in tasks]
    assert sum(map(len, names)) == len(set.union(*names)) == len(LABELS)
    assert all(set(task.test.names) == mine for task, mine in zip(tasks, names, strict=True))


def test_blurred_tasks_lend_each_other_images_and_lose_none(protocol: Protocol) -> None:
    sharp = stream(protocol, 0, joint=False, limit=None)
    blurry = stream(replace(protocol, scenario="blurry"), 0, joint=False, limit=None)
    rows = [row for task in blurry for row in task.train.rows]
    assert sorted(rows) == sorted(row for task in sharp for row in task.train.rows)
    assert any(set(b.train.names) > set(s.train.names) for b, s in zip(blurry, sharp, strict=True))
    for mine, theirs in zip(blurry, sharp, strict=True):
        assert mine.test.rows == theirs.test.rows
        stayed = sum(name in theirs.train.names for name in mine.train.names)
        assert stayed >= len(mine.train.names) / 2


def test_a_trial_comes_first_and_its_classes_again() -> None:
    labels = np.arange(8).repeat(6)
    source = Encoded("made up", tuple("abcdefgh"), labels, lambda row: bytes([row % 256]))
    data = choose(source, source, 3, 2, "validation")
    trial, first, *others = after_trial(data, 2, seed=0)
    usual, *rest = class_incremental(data, 2, seed=0)
    assert len(trial.train.rows) == len(set(trial.train.names)) == 2
    assert sorted(trial.train.rows + first.train.rows) == sorted(usual.train.rows)
    assert set(trial.test.names) == set(trial.train.names)
    assert (first.test.rows, others) == (usual.test.rows, rest)


def test_domains_bring_the_same_labels_from_other_classes() -> None:
    labels = np.arange(100).repeat(2)
    classes = tuple(name for names in SUPERCLASSES.values() for name in names.split())
    source = Encoded("made up", classes, labels, lambda row: bytes([row % 256]))
    data = choose(source, source, 1, 1, "validation")
    tasks = domain_incremental(data, 5, seed=0)
    assert all(set(task.train.names) == set(SUPERCLASSES) for task in tasks)
    assert len({row for task in tasks for row in task.train.rows}) == 100
    with pytest.raises(ValueError, match="one for each task"):
        domain_incremental(data, 10, seed=0)


def test_other_data_knows_no_domains(folder: Path) -> None:
    data = choose(*load(f"imagefolder:{folder}", Path()), None, None, "test")
    with pytest.raises(ValueError, match="no class of CIFAR-100"):
        domain_incremental(data, 5, seed=0)


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not there")
def test_every_class_of_cifar100_has_its_superclass() -> None:
    train, test = load("cifar100", DATA)
    assert sorted(train.classes) == sorted(name for names in SUPERCLASSES.values() for name in names.split())
    assert train.classes == test.classes
    assert len(train.labels) == 50_000
    assert len(test.labels) == 10_000


def test_a_single_pass_is_one_pass() -> None:
    with pytest.raises(ValueError, match="epochs is 3"):
        Protocol(scenario="online", epochs=3, least_steps=0)
    with pytest.raises(ValueError, match=f"least_steps {LearnerConfig().least_steps}"):
        Protocol(scenario="online", epochs=1)
    online = Protocol(scenario="online", **SCENARIO_CONDITIONS["online"])
    assert configure(RECIPES["hippotune"], online, 0, ()).learner.least_steps == 0
