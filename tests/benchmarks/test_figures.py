"""Figures in README and docs come from the files that measured them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.figures.__main__ import RESULTS, ROOT, main
from benchmarks.figures.quoted import TABLES, Figure
from benchmarks.figures.regions import REGION, filled

KNOWN = sorted({figure for table in TABLES.values() for figure in table}, key=lambda figure: figure.what)


def test_every_table_is_current() -> None:
    assert main(check=True) == 0, "run python -m benchmarks.figures"


@pytest.mark.parametrize("figure", KNOWN, ids=lambda figure: figure.what)
def test_a_figure_is_in_its_file_and_names_its_command(figure: Figure) -> None:
    assert "{" not in figure.row(RESULTS)
    module = figure.command.split()[2]
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("end_to_end.json", ("median_seconds_from_accepted_to_served",)),
        ("continual.json", ("quick", "slca", "last")),
    ],
)
def test_a_changed_measurement_makes_the_tables_stale(
    file: str, place: tuple[str, ...], tmp_path: Path
) -> None:
    for each in {figure.file for figure in KNOWN} | {
        "familiarity.json",
        "newcomers.json",
        "kinds.json",
        "few_classes.json",
        "mixed.json",
    }:
        (tmp_path / each).write_text((RESULTS / each).read_text())
    document = json.loads((tmp_path / file).read_text())
    *way, last = place
    record = document
    for key in way:
        record = record[key]
    record[last] += 1
    (tmp_path / file).write_text(json.dumps(document))
    assert main(check=True, results=tmp_path) == 1


def test_only_the_named_region_changes() -> None:
    text = "a\n<!-- figures: x -->\nold\n<!-- end -->\nb\n<!-- reference: x -->\nkept\n<!-- end -->\n"
    new = filled(text, "figures", {"x": "new"})
    assert new == text.replace("old\n", "\nnew\n\n")
    assert filled(new, "figures", {"x": "new"}) == new


def test_no_figure_is_typed_by_hand_into_the_readme() -> None:
    text = REGION.sub("", (ROOT / "README.md").read_text())
    assert re.findall(r"\d[\d.,]*\s?(?:%|ms\b|seconds\b|s\b|x\b|G\b|points\b)", text) == []
