"""What the README says to type works as typed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from hippotune.client import Client
from hippotune.samples import labelled_files
from tests.hippotune.conftest import ROOT, Up, hippotune

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the README's commands are typed."""
    for label, colour in (("rose", "red"), ("tulip", "yellow")):
        (tmp_path / "flowers" / label).mkdir(parents=True)
        for shade in range(2):
            image = Image.new("RGB", (40 + shade, 30), colour)
            image.save(tmp_path / "flowers" / label / f"{shade}.jpg")
        image.save(tmp_path / f"{label}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(start: str) -> list[str]:
    """The README's commands that start so."""
    found = [command for command in COMMANDS if command.startswith(start)]
    assert found, start
    return found


def test_the_curls(server: Up, flowers: Path) -> None:
    teach, ask = typed("curl")
    with Client(server.address) as client:
        task = json.loads(curl(teach, server))
        assert (task["name"], task["labels"], task["images"]) == ("flowers", ["rose", "tulip"], 2)
        client.wait(task["id"])
    answer = json.loads(curl(ask, server))
    assert answer["budget"]["tmax"] == 2
    assert {"rose", "tulip"} <= {prediction["label"] for prediction in answer["predictions"]}


def curl(command: str, server: Up) -> str:
    words = shlex.split(command.replace("http://127.0.0.1:8000", server.address))
    return subprocess.run(
        [*words, "-sS", "--fail-with-body"], capture_output=True, text=True, check=True
    ).stdout


def test_the_commands(server: Up, flowers: Path) -> None:
    for name in ("submit", "classify", "versions"):
        (command,) = typed(f".venv/bin/hippotune {name}")
        words = shlex.split(command)[1:]
        arguments = [str(flowers / word) if (flowers / word).exists() else word for word in words]
        result = hippotune(*arguments, "--url", server.address)
        assert result.returncode == 0, result.stderr


def test_the_python(server: Up, flowers: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace("http://127.0.0.1:8000", server.address)
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        capture_output=True,
        text=True,
        cwd=flowers,
    )
    assert result.returncode == 0, result.stderr
    known = {label for _, label in labelled_files(flowers / "flowers")} | {str(digit) for digit in range(10)}
    assert result.stdout.strip() in known


def test_every_other_command_is_one_of_ours() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == ".venv/bin/hippotune":
            known = hippotune(words[1], "--help")
            assert known.returncode == 0
            flags = [word for word in words if word.startswith("--")]
            assert all(flag in known.stdout for flag in flags), (command, flags)
        else:
            assert words[0] in ("curl", "export"), command


def test_its_picture_is_there_and_drawn() -> None:
    (picture,) = re.findall(r"\]\((\S+\.svg)\)", README)
    drawing = ElementTree.parse(ROOT / picture).getroot()
    assert drawing.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in (ROOT / picture).read_text()
