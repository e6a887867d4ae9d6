"""A variable that nobody reads is told, with the one that was meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hippotune import doctor
from hippotune.doctor import Verdict
from hippotune.environment import slips
from hippotune.settings import Settings
from tests.hippotune.conftest import ROOT, clean_environment

SLIP = "HIPPOTUNE_MAX_BACH is no setting and changes nothing; is HIPPOTUNE_MAX_BATCH meant?"


def test_the_nearest_name_is_told() -> None:
    assert list(slips({"HIPPOTUNE_MAX_BACH": "3"})) == [SLIP]
    assert list(slips({"HIPPOTUNE_QQQQ": "3"})) == ["HIPPOTUNE_QQQQ is no setting and changes nothing"]


def test_what_some_command_or_file_reads_is_no_slip() -> None:
    real = {f"HIPPOTUNE_{name.upper()}": "" for name in Settings.model_fields}
    compose = (ROOT / "docker-compose.yml").read_text() + (ROOT / ".env.example").read_text()
    assert "HIPPOTUNE_IMAGE" in compose
    assert "HIPPOTUNE_TAG" in compose
    files = {"HIPPOTUNE_IMAGE": "hippotune", "HIPPOTUNE_TAG": "latest"}
    links = {
        "HIPPOTUNE_SERVER_PORT": "tcp://10.0.0.1:8000",
        "HIPPOTUNE_SERVER_SERVICE_HOST": "10.0.0.1",
        "HIPPOTUNE_SERVER_SERVICE_PORT_HTTP": "8000",
        "HIPPOTUNE_SERVER_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    others = {"hippotune_max_batch": "3", "_HIPPOTUNE_COMPLETE": "x", "PATH": "/bin"}
    assert list(slips(real | files | links | others)) == []


@pytest.mark.parametrize("command", ["up", "serve", "train"])
def test_a_process_warns_once(command: str, tmp_path: Path) -> None:
    asked = ("--store", str(tmp_path), "--redis-url", "redis://127.0.0.1:1", "--weights", "/nowhere")
    result = subprocess.run(
        [sys.executable, "-m", "hippotune", command, *asked],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean_environment() | {"HIPPOTUNE_MAX_BACH": "3", "HIPPOTUNE_PORT": "0"},
    )
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [line["reason"] for line in lines if line["event"] == "unknown variable"] == [SLIP]


def test_doctor_notes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIPPOTUNE_MAX_BACH", "3")
    found = [finding for finding in doctor.variables() if "MAX_BACH" in finding.found]
    assert [(finding.verdict, finding.found) for finding in found] == [(Verdict.NOTE, SLIP)]
