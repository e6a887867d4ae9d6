"""How familiar few classes are: what is counted, and that the command runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the benchmarks come with the extra dev")

from benchmarks import few_classes
from benchmarks.fetch import DATA
from benchmarks.few_classes import IMAGES, table


def test_a_row_tells_of_known_and_of_other_classes() -> None:
    row = {"set": "birds", "classes": 2, "images": 5, "known": [0.01, 0.05], "others": [0.5, 0.75]}
    assert table({"rows": [row]}).splitlines()[-1] == "| birds | 2 | 5 | 1.0 / 5.0 | 50.0 / 75.0 |"


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is missing")
def test_others_are_less_familiar_than_the_classes_known(tmp_path: Path) -> None:
    few_classes.main(DATA, quick=True, out=tmp_path / "few.json")
    rows = json.loads((tmp_path / "few.json").read_text())["rows"]
    assert [row["images"] for row in rows] == list(IMAGES)
    assert all(0 <= share <= 1 for row in rows for share in (*row["known"], *row["others"]))
    assert sum(row["others"][1] for row in rows) > sum(row["known"][1] for row in rows)
