"""The demo as a user starts it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hippotune.commands.demo import free_port
from hippotune.settings import Settings
from tests.hippotune.conftest import ROOT, SMALL, clean_environment, family, hippotune, process_of

FEW = ("--per-class", "6", "--test-per-class", "2")


def test_it_ends_by_itself_and_writes_its_figures(backbone: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "demo.json"
    arguments = ("--exit", "--json", out, "--store", tmp_path / "store", *FEW, *SMALL, *backbone)
    result = hippotune("demo", *arguments)
    assert result.returncode == 0, result.stderr
    figures = json.loads(out.read_text())
    assert [len(row) for row in figures["matrix"]] == [1, 2, 3, 4, 5]
    assert figures["failed_requests"] == 0
    served, consolidated = figures["seconds_to_served"], figures["seconds_to_consolidated"]
    assert len(served) == len(consolidated) == 5
    assert all(0 < fast <= slow for fast, slow in zip(served, consolidated, strict=True))
    assert figures["latency_ms"]["tmax4"]["p99"] >= figures["latency_ms"]["tmax4"]["p50"] > 0
    assert 0 <= figures["unknown_after"] <= 1
    assert 0 <= figures["unknown_before"] <= 1
    assert "forgetting" in result.stdout
    assert "before they were taught" in result.stdout


def test_what_cannot_work_is_told_before_anything_is_learned(tmp_path: Path) -> None:
    nowhere = hippotune("demo", "--json", tmp_path / "nowhere" / "demo.json")
    assert nowhere.returncode == 2
    assert f"no such folder: {tmp_path / 'nowhere'}" in nowhere.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = hippotune("demo", "--port", port, "--store", tmp_path)
    assert refused.returncode == 1
    assert "`hippotune up` did not start" in refused.stderr
    assert "Address already in use" in refused.stderr
    assert "{" not in refused.stderr


@pytest.mark.parametrize(
    ("host", "kind"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)], ids=["IPv4", "IPv6"]
)
def test_the_usual_port_is_taken_unless_somebody_has_it(host: str, kind: socket.AddressFamily) -> None:
    with socket.create_server((host, 0), family=kind) as taken:
        settings = Settings(host=host, port=taken.getsockname()[1])
        assert free_port(settings) == 0
    assert free_port(settings) == settings.port


@contextmanager
def serving_on(
    backbone: tuple[str, ...], store: Path
) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """A demo that is to serve on when it is done, and the lines it prints."""
    arguments = ("--tasks", "1", "--port", "0", "--store", str(store), *FEW, *SMALL, *backbone)
    process = subprocess.Popen(
        [sys.executable, "-m", "hippotune", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment(),
    )
    assert process.stdout is not None
    try:
        yield process, iter(process.stdout)
    finally:
        for pid in family(process, store):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_it_serves_on_until_ctrl_c(backbone: tuple[str, ...], tmp_path: Path) -> None:
    store = tmp_path / "store"
    with serving_on(backbone, store) as (process, lines):
        curl = next(line for line in lines if line.strip().startswith("curl"))
        answer = subprocess.run(
            [*shlex.split(curl), "-sS"], capture_output=True, text=True, check=True
        ).stdout
        assert json.loads(answer)["budget"]["tmax"] == 2
        assert re.fullmatch("[0-9]", json.loads(answer)["predictions"][0]["label"])
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
        assert family(process, store) == []


def test_it_says_so_when_what_it_left_serving_dies(backbone: tuple[str, ...], tmp_path: Path) -> None:
    store = tmp_path / "store"
    with serving_on(backbone, store) as (process, lines):
        assert any("Ctrl-C stops it" in line for line in lines)
        os.kill(process_of(process, store, "up"), signal.SIGKILL)
        _, errors = process.communicate(timeout=40)
        assert process.returncode == 1
        assert "ended by itself, with exit code -9" in errors
