"""Whole runs on a few coloured squares."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.continual.methods import RECIPES
from benchmarks.continual.overrides import UnknownSetting, override
from benchmarks.continual.protocols import Protocol
from benchmarks.continual.runner import Run, configure, run
from tests.benchmarks.continual.conftest import BACKBONE
from tests.hippotune.conftest import ROOT
from tests.trainer.learning.test_imports import SERVICE_ONLY

LAYERS = "loop.layers=(1, 2, 3)"
SMALL = {
    "hippotune": (LAYERS, "learner.slots=3", "learner.settled=100"),
    "hippotune-fast": (LAYERS,),
    "joint": (LAYERS, "learner.slots=3"),
    "ranpac": ("width=100",),
    "slca": ("samples=8",),
    "der": ("buffer=10",),
}


class Interrupted(Exception):
    """Stands for a power cut."""


def run_small(name: str, protocol: Protocol, folder: Path, stop_in: int | None = None) -> dict[str, Any]:
    """A run of one method, cut off in training of task `stop_in`."""
    recipe = RECIPES[name]
    config = configure(recipe, protocol, 0, SMALL.get(name, ()))

    def progress(task: int, total: int, images: float) -> None:
        assert 0 < images <= total
        if task == stop_in:
            raise Interrupted

    return run(Run(name, protocol, config), recipe, folder, progress)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_method_learns_and_resumes_as_if_never_interrupted(
    name: str, protocol: Protocol, tmp_path: Path
) -> None:
    whole = run_small(name, protocol, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    assert 0 <= whole["last"] <= 100
    assert whole["trainable_parameters"] > 0 or name in ("frozen-ncm", "hippotune-fast")
    assert whole["giga_multiply_adds"] > 0
    if RECIPES[name].joint or name == "hippotune-fast":
        return
    with pytest.raises(Interrupted):
        run_small(name, protocol, tmp_path / "cut", stop_in=2)
    assert (tmp_path / "cut" / "record.json").exists()
    continued = run_small(name, protocol, tmp_path / "cut")
    assert continued["matrix"] == whole["matrix"]
    assert continued["probes"] == whole["probes"]


def test_a_run_of_another_kind_is_not_continued(protocol: Protocol, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run_small("frozen-ncm", protocol, tmp_path, stop_in=1)
    assert len(run_small("ranpac", protocol, tmp_path)["matrix"]) == 3


@pytest.mark.parametrize(
    ("method", "settings"), [("frozen-ncm", []), ("hippotune", ["--set", "loop.layers=(1, 2)"])]
)
def test_the_command_runs_where_only_torch_is_installed(
    method: str, settings: list[str], folder: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    arguments = ["--method", method, "--data", f"imagefolder:{folder}", "--tasks", "3", "--px", "32",
                 "--backbone", BACKBONE, "--weights", str(weights), "--out", str(out), *settings]  # fmt: skip
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({SERVICE_ONLY}));"
        f"from benchmarks.continual.__main__ import main; main({arguments})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    figures = json.loads(out.read_text())
    assert figures["config"]["protocol"]["px"] == 32
    for key in (
        "last",
        "aaa",
        "forgetting",
        "bwt",
        "min_acc",
        "wc_acc",
        "images_per_second",
        "matrix",
        "machine",
    ):
        assert key in figures


def test_any_field_can_be_set_and_no_other() -> None:
    config = RECIPES["hippotune"].config
    assert override(config, ["learner.slots=20", "loop.alpha=1", "learner.bptt=2"]).learner.slots == 20
    assert override(config, ["loop.layers=(1, 2)"]).loop.layers == (1, 2)
    for wrong in ("learner.slot=20", "slots=20", "learner.slots=many", "learner"):
        with pytest.raises(UnknownSetting):
            override(config, [wrong])


@pytest.mark.parametrize("scenario", ["blurry", "online"])
def test_ours_learns_when_labels_recur_and_when_images_pass_once(
    scenario: str, protocol: Protocol, tmp_path: Path
) -> None:
    figures = run_small("hippotune", replace(protocol, scenario=scenario), tmp_path)
    assert [len(row) for row in figures["matrix"]] == [1, 2, 3]
    assert len(figures["own"]["loop"]) == 3


def test_other_budgets_are_judged_where_asked(protocol: Protocol, tmp_path: Path) -> None:
    recipe = RECIPES["hippotune"]
    config = configure(recipe, protocol, 0, (*SMALL["hippotune"], "sweep=True"))
    figures = run(Run("hippotune", protocol, config), recipe, tmp_path, lambda *_: None)
    own = next(one for one in figures["own"]["sweep"] if (one["tmax"], one["epsilon"]) == (4, 0))
    assert own["accuracy"] == pytest.approx(figures["last"])
    steps = [one["mean_steps"] for one in figures["own"]["sweep"] if one["epsilon"]]
    assert steps == sorted(steps, reverse=True)


def test_bf16_learns_too_and_probes_can_be_left_out(protocol: Protocol, tmp_path: Path) -> None:
    recipe = RECIPES["lora"]
    fast = replace(protocol, precision="bf16", probe_per_class=0)
    figures = run(Run("lora", fast, configure(recipe, fast, 0, ())), recipe, tmp_path, lambda *_: None)
    assert torch.tensor(figures["last"]).isfinite()
    assert "aaa" in figures
    assert "min_acc" not in figures
