"""Several kinds in one store: what is summed up, and that the command runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the benchmarks come with the extra dev")

from benchmarks import mixed
from benchmarks.mixed import summary, table


def test_a_summary_has_means_and_the_worst() -> None:
    found = summary(
        [{"right": 0.5, "score": 0.75, "unknown": 0.0}, {"right": 1.0, "score": 0.75, "unknown": 0.125}]
    )
    assert found == {"right": 0.75, "score": 0.75, "unknown": 0.0625, "off": 0.25, "worst": 0.125}
    assert table({"rows": {"two": found}}).splitlines()[-1] == "| two | 75.0 | 75.0 | 25.0 | 6.2 | 12.5 |"


def test_known_images_stay_known_when_another_kind_comes(tmp_path: Path) -> None:
    mixed.main(quick=True, out=tmp_path / "mixed.json")
    found = json.loads((tmp_path / "mixed.json").read_text())
    assert set(found["pairs"]) == {"cells, then spectrograms", "spectrograms, then cells"}
    later = found["rows"]["another kind afterwards"]
    assert later["right"] > 0.8
    assert later["worst"] < 0.1
