"""Ctrl-C: what a command leaves behind, and what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest

from hippotune.client import Client
from hippotune.demo.data import DemoTask
from tests.hippotune.conftest import ROOT, Up, clean_environment, trainer_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULE, MAIN = PROJECT["scripts"]["hippotune"].split(":")


def test_an_interrupted_command_is_130(server: Up) -> None:
    command = [sys.executable, "-m", "hippotune", "bench", "--requests", "100000", "--url", server.address]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  # a shell's background job hears none
    before = answers(server, "/classify")
    process = subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stderr=subprocess.PIPE, preexec_fn=heard
    )
    try:
        while answers(server, "/classify") == before and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert b"Traceback" not in errors


MIDST_OF_IMPORTS = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    raise ImportError from None  # as extension modules may
"""
MIDST_OF_MAIN = """
import signal
from hippotune import main
main.application = lambda: signal.raise_signal(signal.SIGINT)
main.main()
"""


@pytest.mark.parametrize("start", [("-m", "hippotune"), ("-c", f"from {MODULE} import {MAIN}; {MAIN}()")])
def test_an_interrupt_before_all_is_imported_is_130(tmp_path: Path, start: tuple[str, ...]) -> None:
    (tmp_path / "typer.py").write_text(MIDST_OF_IMPORTS)
    assert interrupted(*start, PYTHONPATH=str(tmp_path)) == (130, b"")


def test_an_interrupt_before_there_are_commands_is_130() -> None:
    assert interrupted("-c", MIDST_OF_MAIN) == (130, b"")


def interrupted(*start: str, **more: str) -> tuple[int, bytes]:
    """Exit code and stderr of a Python that interrupts itself."""
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  # as above
    environment = clean_environment() | more
    ended = subprocess.run(
        [sys.executable, *start], cwd=ROOT, env=environment, stderr=subprocess.PIPE, preexec_fn=heard
    )
    return ended.returncode, ended.stderr


def test_whoever_stops_waiting_is_told_how_to_go_on(
    server: Up, client: Client, tasks: list[DemoTask], tmp_path: Path
) -> None:
    (tmp_path / "seven").mkdir()
    (tmp_path / "seven" / "0.png").write_bytes(tasks[3].train[-1].image)
    name, trainer = "left alone", trainer_of(server.process, server.store)
    arguments = ("submit", str(tmp_path), "--name", name, "--wait", "--url", server.address)
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  # as above
    assert trainer, "0 would be this process and all beside it"
    before = answers(server, "/tasks/{id}")
    os.kill(trainer, signal.SIGSTOP)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "hippotune", *arguments],
            cwd=ROOT, env=clean_environment(), stderr=subprocess.PIPE, text=True, preexec_fn=heard,
        )  # fmt: skip
        while answers(server, "/tasks/{id}") == before:  # until its answer has come, and the waiting begun
            assert process.poll() is None
            time.sleep(0.05)
        known = [task.id for task in client.tasks() if task.name == name]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        os.kill(trainer, signal.SIGCONT)
    assert process.returncode == 130
    assert f"`hippotune tasks {known[0]}` shows it" in errors
    assert client.wait(known[0]).state == "consolidated"


def answers(server: Up, route: str) -> str:
    """How many a server has given."""
    text = httpx.get(f"{server.address}/metrics").text
    counted = f'request_duration_seconds_count{{code="200",route="{route}"}} '
    found = re.search(rf"{re.escape(counted)}(\S+)", text)
    return found[1] if found else "0"
