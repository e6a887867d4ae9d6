"""Nothing that is asked about was ever learned."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from hippotune.demo.data import DemoTask, Example, Limits, digits, folder


def write(root: Path, counts: dict[str, int], salt: str = "") -> Path:
    for label, count in counts.items():
        for number in range(count):
            path = root / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{salt}{label}{number}".encode())
    return root


def parts(tasks: list[DemoTask]) -> tuple[list[Example], list[Example]]:
    return [e for task in tasks for e in task.train], [e for task in tasks for e in task.test]


def test_digits_are_all_there_once() -> None:
    tasks = digits(Limits(tasks=5))
    train, test = parts(tasks)
    assert [task.name for task in tasks] == ["0 1", "2 3", "4 5", "6 7", "8 9"]
    assert len(train) + len(test) == 1797
    # scikit-learn's set repeats no image, so bytes tell them apart.
    assert len({e.image for e in train} | {e.image for e in test}) == 1797


def test_a_quarter_of_every_class_is_held_out() -> None:
    train, test = parts(digits(Limits(tasks=5)))
    kept, held = Counter(e.label for e in train), Counter(e.label for e in test)
    for label in kept:
        assert held[label] / (kept[label] + held[label]) == pytest.approx(0.25, abs=0.01)


def test_the_split_is_the_same_every_time() -> None:
    assert digits(Limits(tasks=2, train=3, test=2)) == digits(Limits(tasks=2, train=3, test=2))


def test_limits_hold_for_each_class() -> None:
    train, test = parts(digits(Limits(tasks=5, train=4, test=2)))
    assert set(Counter(e.label for e in train).values()) == {4}
    assert set(Counter(e.label for e in test).values()) == {2}


def test_a_folder_is_split_by_class(tmp_path: Path) -> None:
    tasks = folder(write(tmp_path, {"a": 8, "b": 4, "c": 2}), Limits(tasks=2))
    train, test = parts(tasks)
    assert Counter(e.label for e in test) == {"a": 2, "b": 1, "c": 1}
    assert not {e.image for e in train} & {e.image for e in test}
    assert [{e.label for e in task.train} for task in tasks] == [{"a", "b"}, {"c"}]


def test_a_folders_own_test_part_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "train", {"a": 2, "b": 2}, "train")
    write(tmp_path / "val", {"a": 1, "b": 1}, "val")
    train, test = parts(folder(tmp_path, Limits(tasks=2)))
    assert {e.image.decode()[:3] for e in test} == {"val"}
    assert len(train) == 4


def test_what_cannot_be_dealt_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tasks is 3; it must lie in 1\.\.2"):
        folder(write(tmp_path, {"a": 2, "b": 2}), Limits(tasks=3))
    with pytest.raises(ValueError, match="class 'c' has one image"):
        folder(write(tmp_path, {"c": 1}), Limits(tasks=2))
