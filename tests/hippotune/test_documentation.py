"""What README and docs say to type works as typed.

A block marked `sh` or `python` is run as it stands, where the files it names lie, against a real `hippotune up`. A
block with a command of `ELSEWHERE` is not: its commands are looked up instead, and the reason says what runs them.
Nothing else is left out; what is no command is marked otherwise.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image
from typer.testing import CliRunner

from hippotune.client import Client
from hippotune.main import application
from tests.hippotune.conftest import ROOT, WAIT_S, Starter, Up, clean_environment, settle
from trainer.learning.config import LearnerConfig

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "deploy/README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]
ADDRESS = "127.0.0.1:8000"
ELSEWHERE = {
    "docker": "no engine runs in the tests; tests/deploy runs what the containers run as plain processes",
    "kubectl": "no cluster either; tests/deploy reads what it applies",
    "make": "runs the tests, or sets up what runs them",
    "hippotune up": "every command here is typed against one that runs",
    "hippotune serve": "tests/deploy",
    "hippotune train": "tests/deploy",
    "hippotune demo": "test_run.py in tests/hippotune/demo",
    "hippotune doctor --strict": "finds fault with a machine that runs tests; test_doctor.py",
    "hippotune export": "test_export.py types it on the backbone that it exports",
    'session = InferenceSession("flowers.onnx")': "test_export.py runs it on the file exported",
    "python -m": "measurements take minutes; tests/benchmarks has their parts",
}


@dataclass(frozen=True)
class Block:
    """What one fence holds. line: where it begins."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """A line each, continued lines joined, comments left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        told = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
        return [line for line in told if line]

    @property
    def elsewhere(self) -> str | None:
        """The entry of ELSEWHERE that keeps it from being run here."""
        found = (
            key
            for command in self.commands
            for key in ELSEWHERE
            if command.startswith(key + " ") or command == key
        )
        return next(found, None)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, fence.start()) + 1, fence[1], fence[2])
        for fence in re.finditer(r"^```(sh|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


ALL = [block for page in PAGES for block in blocks(page)]
HERE = [block for block in ALL if not block.elsewhere]


@pytest.fixture(scope="module")
def documented(start: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A service of its own: the pages roll it back and make it forget."""
    with start(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are typed."""
    place = tmp_path_factory.mktemp("desk")
    for label, colour in (("rose", "red"), ("tulip", "yellow")):
        (place / "flowers" / label).mkdir(parents=True)
        for shade in range(2):
            image = Image.new("RGB", (40 + shade, 30), colour)
            image.save(place / "flowers" / label / f"{shade}.jpg")
        image.save(place / f"{label}.jpg")
    return place


@pytest.mark.parametrize("block", HERE, ids=str)
def test_what_can_run_here_runs(block: Block, documented: Up, desk: Path) -> None:
    text = block.text.replace(ADDRESS, documented.address.removeprefix("http://"))
    if block.language == "python":
        command = [sys.executable, "-c", text]
    else:
        typed = text + "\n:"  # not the last, so that the shell stays, as a reader's does
        command = ["bash", "-euo", "pipefail", "-c", typed]
    result = subprocess.run(
        command, cwd=desk, env=environment(documented), capture_output=True, text=True, timeout=WAIT_S
    )
    assert result.returncode == 0, result.stdout + result.stderr
    problem = '"status":4' in result.stdout or '"status":5' in result.stdout  # curl alone does not mind one
    assert not problem, result.stdout
    settle(documented)  # a reader does not type as fast as a test


def test_the_answer_that_readme_shows_is_what_a_new_service_gives(
    start: Starter, desk: Path, tmp_path: Path
) -> None:
    (told,) = re.findall(r"^```json\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    shown = json.loads(told)
    with start(tmp_path / "store") as running, Client(running.address) as client:
        client.wait(client.submit([(desk / f"{label}.jpg", label) for label in ("rose", "tulip")], "flowers"))
        settle(running)
        real = httpx.post(f"{running.address}/classify", content=(desk / "rose.jpg").read_bytes()).json()
    assert set(shown) < set(real)
    assert set(shown["budget"]) == set(real["budget"])
    assert shown["version"] == real["version"]
    assert bool(shown["steps"]) == (LearnerConfig().least_images <= 2), "tests train on less than users do"
    assert [each["label"] for each in shown["predictions"]] == [each["label"] for each in real["predictions"]]
    assert shown["predictions"][0]["score"] == pytest.approx(real["predictions"][0]["score"], abs=0.05)


def environment(running: Up) -> dict[str, str]:
    """The commands of this interpreter first on PATH, the running server for those that ask for one, nobody's home."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {
        "HIPPOTUNE_URL": running.address,
        "HIPPOTUNE_STORE": str(running.store),
        "PYTHONPATH": str(ROOT),
        "HOME": str(running.store),
    }
    return clean_environment() | ours | {"PATH": path}


@pytest.mark.parametrize("block", [block for block in ALL if block.elsewhere], ids=str)
def test_what_cannot_run_here_exists(block: Block) -> None:
    if block.language == "python":
        compile(block.text, str(block), "exec")
        return
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in block.commands:
        words = shlex.split(command.rstrip("&"))
        if words[0] == "make":
            assert words[1] in targets, command
        elif words[0] == "hippotune":
            told = CliRunner(env={"COLUMNS": "300"}).invoke(application(), [words[1], "--help"])
            assert told.exit_code == 0, command
            assert_flags(words, told.output)
        elif words[:2] == ["python", "-m"]:
            path = ROOT / words[2].replace(".", "/")
            source = next(each for each in (path / "__main__.py", path.with_suffix(".py")) if each.exists())
            assert_flags(words, source.read_text())
        else:
            assert words[0] in ("export", "cp", "docker", "kubectl", "source"), (
                f"{command}: run it, or say in ELSEWHERE who does"
            )


def assert_flags(words: list[str], told: str) -> None:
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in told, (words, word)


def test_only_these_are_left_out() -> None:
    """Whoever needs more than this list has most likely found something that can be run."""
    assert {block.elsewhere for block in ALL} - {None} <= set(ELSEWHERE)
    assert len(HERE) > len(ALL) / 2
