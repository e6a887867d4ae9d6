"""The page says what the files say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.continual import suite
from benchmarks.continual.__main__ import parser
from benchmarks.continual.methods import RECIPES
from benchmarks.continual.overrides import override
from benchmarks.report.__main__ import main
from benchmarks.report.continual import write
from benchmarks.report.rows import Row, bound, pick, read


def figures(name: str, seed: int, last: float, **more: Any) -> dict[str, Any]:
    """As `benchmarks.continual` writes them, as far as a report reads them."""
    protocol = {"scenario": "class", "split": "test"}
    loop = {"entropy": [1.0, 0.5], "slot_use": 0.3, "spread_ratio": 0.9, "mean_steps": 2.0}
    own = {"loop": [loop], "spectral_radius": [0.7], "best_head": last + 10}
    config = {"loop": {"layers": [3]}, "learner": {"vary": True}}
    return {
        "name": name, "method": "hippotune", "protocol": "quick", "seed": seed, "last": last, "aaa": last + 5,
        "forgetting": 2.0, "bwt": -1.0, "min_acc": 40.0, "wc_acc": 50.0, "accuracy": [last + 10, last],
        "matrix": [[last + 10], [last, last]], "giga_multiply_adds": 0.36, "trainable_parameters": 2_000_000,
        "images_per_second": 30.0, "fast": [{"seconds": 1, "accuracy": 9, "consolidated": 9}] * 2, "own": own,
        "config": {"limit_tasks": None, "protocol": protocol, "config": config},
    } | more  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    runs = [figures("hippotune", seed, last) for seed, last in ((0, 60.0), (1, 62.0))]
    runs += [figures("ranpac", 0, 58.0), figures("joint", 0, 60.0), figures("one step", 0, 59.0)]
    looks = figures("hippotune", 2, 99.0)
    looks["config"] = {"limit_tasks": 2, "protocol": {"scenario": "class", "split": "test"}}
    sweep = [
        {
            "tmax": t,
            "epsilon": e,
            "topk": 10,
            "keep": 1.0,
            "accuracy": 50.0,
            "mean_steps": t,
            "giga_multiply_adds": 0.3,
        }
        for t, e in ((1, 0.0), (2, 0.0), (2, 1.0))
    ]
    budgets = figures("other budgets", 0, 60.0)
    budgets["own"]["sweep"] = sweep
    for number, run in enumerate([*runs, looks, budgets]):
        (tmp_path / f"{number}.json").write_text(json.dumps(run))
    return tmp_path


def test_seeds_are_averaged_and_looks_left_out(results: Path) -> None:
    rows = read(results)
    (ours,) = pick(rows, "quick", "class", ["hippotune"])
    assert ours.text("last") == "61.0 ± 1.4"
    assert bound(rows, "quick") == 70.0


def test_the_page_has_every_section_there_are_figures_for(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs"
    main(["--results", str(results), "--theory", "none", "--out", str(out)])
    page = (out / "continual.md").read_text()
    assert "| `hippotune` | 61.0 ± 1.4 | 0.871 | 66.0 ± 1.4 |" in page
    methods = page[page.index("## quick") :]
    places = [methods.index(f"| `{name}` |") for name in ("joint", "hippotune", "ranpac")]
    assert places == sorted(places), "all classes at once, then the best first"
    assert "| one step | 59.0 | -1.0 | 64.0 | -1.0 | 1 |" in page
    assert "| `ranpac` | +2.0 | +2.0 | 1 |" in page
    assert "## cub" not in page
    for name in ("tasks", "cost", "matrix", "budgets"):
        assert f"(continual-quick-{name}.svg)" in page
        assert (out / f"continual-quick-{name}.svg").stat().st_size > 1000


def test_an_older_ablation_is_set_beside_images_as_they_are(tmp_path: Path) -> None:
    older = {"config": {"loop": {"layers": [3]}, "learner": {}}}
    rows = []
    for name, last, changed in (
        ("hippotune", 70.0, {}),
        ("one step", 68.0, {}),
        ("without L_orth", 66.0, older),
        ("images as they are", 69.0, {"config": {"loop": {"layers": [3]}, "learner": {"vary": False}}}),
    ):
        run = figures(name, 0, last)
        rows.append(Row(name, "quick", "class", (run | {"config": run["config"] | changed},)))
    write(rows, tmp_path)
    page = (tmp_path / "continual.md").read_text()
    assert "| one step | 68.0 | -2.0 |" in page
    assert "| without L_orth * | 66.0 | -3.0 |" in page
    assert "| images as they are | 69.0 | -1.0 |" in page


def test_means_are_written_beside_the_results(results: Path, tmp_path: Path) -> None:
    main(["--results", str(results), "--theory", "none", "--out", str(tmp_path / "docs")])
    quick = json.loads(results.with_suffix(".json").read_text())["quick"]
    deviation = quick["hippotune"].pop("last_deviation")
    assert deviation == pytest.approx(2**0.5)
    assert quick["hippotune"] == {"last": 61.0, "aaa": 66.0, "forgetting": 2.0, "seeds": 2}
    assert "last_deviation" not in quick["ranpac"]


def test_the_theory_page_has_a_line_a_layer_and_the_verdict(tmp_path: Path) -> None:
    layer = {
        "layer": 3, "residual": [0.8, 0.5, 0.1, 0.0], "radius_first": 0.9, "radius_last": 0.5, "asymmetry": 0.2,
        "neumann": [0.9, 0.7], "krylov": [0.8, 0.1], "loop": [0.9, 0.85], "newton": 1.02,
    }  # fmt: skip
    theory = {
        "terms": [1, 4],
        "layers": [layer],
        "queries": 64,
        "verdict": {"contraction": "holds in 1 of 1 layers"},
    }
    (tmp_path / "krylov.json").write_text(json.dumps(theory))
    main(
        [
            "--results",
            str(tmp_path),
            "--theory",
            str(tmp_path / "krylov.json"),
            "--out",
            str(tmp_path / "docs"),
        ]
    )
    page = (tmp_path / "docs/theory.md").read_text()
    assert "| 3 | 0.80 / 0.10 / 0.00 | 0.90 / 0.50 | 0.20 | 0.70 / 0.10 / 0.85 | 1.02 |" in page
    assert "- contraction: holds in 1 of 1 layers." in page


def test_drawing_again_changes_nothing(results: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        main(["--results", str(results), "--theory", "none", "--out", str(tmp_path / name)])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_suite_runs_what_is_missing_and_every_command_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    parts = list(suite.PARTS)
    everything = list(suite.missing(parts, "quick", 2))
    assert len({entry.path("quick", seed) for entry, seed in everything}) == len(everything)
    assert all(re.fullmatch(r"[\w.-]+", entry.path("quick", seed).name) for entry, seed in everything)
    for entry, seed in everything:
        options = parser().parse_args(suite.command(entry, "quick", seed, ["--device", "cpu"])[3:])
        assert override(RECIPES[options.method].config, options.settings)
        assert (options.seed, options.device) == (seed, "cpu")
    entry, seed = everything[0]
    entry.path("quick", seed).write_text("{}")
    assert len(list(suite.missing(parts, "quick", 2))) == len(everything) - 1
