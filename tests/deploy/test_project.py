"""What contributors and operators are told: pages, the workflow, the hooks."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from hippotune.main import application
from hippotune.settings import Settings
from tests.deploy.conftest import ROOT, example_values

PAGES = [
    ROOT / "deploy" / "README.md",
    *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY")),
]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def typed(page: Path) -> list[list[str]]:
    """The commands of a page's shell blocks, without comments and redirections."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [re.split(r"  +#| [<>] ", line)[0] for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line]


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.github-workflows", ".github/workflows/ci.yml"),
        ("custom.github-workflows-require-timeout", ".github/workflows/ci.yml"),
        ("vendor.citation-file-format", "CITATION.cff"),
    ],
)
def test_it_fits_its_schema(schema: str, file: str) -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--default-filetype",
        "yaml",
        "--builtin-schema",
        schema,
    ]
    result = subprocess.run([*command, ROOT / file], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_benchmark_is_in_the_table() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text()
    started = re.compile(r'^"""[^"]*?`python -m (benchmarks[\w.]*)', re.DOTALL)
    commands = {
        found[1] for path in (ROOT / "benchmarks").rglob("*.py") if (found := started.match(path.read_text()))
    }
    assert len(commands) > 20
    assert {command for command in commands if f"`{command}`" not in told} == {"benchmarks.fuzz.one"}


def test_the_workflow_runs_the_make_targets() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert sorted(runs) == ["make check", "make test"]


def test_the_hooks_are_those_of_make_check() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = " ".join(hook["entry"] for hook in repo["hooks"])
    rule = subprocess.run(
        ["make", "-n", "check"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    tools = set(re.findall(r"^\.venv/bin/\S+", rule, re.MULTILINE)) - {".venv/bin/python"}
    assert tools
    assert all(tool in entries for tool in tools)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target.partition("#")[0]).exists(), target


def test_the_commands_of_the_pages_exist(services: dict[str, Any], compose: dict[str, Any]) -> None:
    commands = [words for page in PAGES for words in typed(page)]
    assert {words[0] for words in commands} == {"cp", "docker", "kubectl", "make"}
    for words in commands:
        if words[0] == "make":
            assert words[1] in TARGETS, words
        elif words[0] == "cp":
            assert (ROOT / words[1]).is_file(), words
        elif words[0] == "kubectl":
            check_kubectl(words)
        else:
            check_compose(words, services)


def check_compose(words: list[str], services: dict[str, Any]) -> None:
    """A command names services that exist and paths that are volumes of theirs."""
    assert words[1] == "compose"
    assert words[2] in ("build", "push", "up", "down", "stop", "start", "exec", "run"), words
    named = {word.partition("=")[0] for word in words[3:]} & set(services)
    if words[2] not in ("up", "down"):
        (service,) = (word for word in words if word in services)
        if "-C" in words:
            folder = words[words.index("-C") + 1]
            assert any(volume.endswith(f":{folder}") for volume in services[service]["volumes"]), words
    elif "--scale" in words:
        assert named, words


def check_kubectl(words: list[str]) -> None:
    """A command names what deploy/kubernetes holds; its secret is checked beside the server that reads it."""
    folder = ROOT / "deploy" / "kubernetes"
    made = [thing for file in folder.glob("*.yaml") for thing in yaml.safe_load_all(file.read_text())]
    names = {f"{thing['kind'].lower()}/{thing['metadata']['name']}" for thing in made if "metadata" in thing}
    if words[1] == "apply":
        assert words[2:] == ["-k", str(folder.relative_to(ROOT))]
    elif words[1] != "create":
        assert names & set(words), words


def test_what_the_page_says_of_settings_is_so(services: dict[str, Any]) -> None:
    page = PAGES[0].read_text()
    known = {*example_values(), *(f"HIPPOTUNE_{name.upper()}" for name in Settings.model_fields)}
    for name in re.findall(r"`([A-Z][A-Z_]+)(?:=[^`]*)?`", page):
        assert name in known, name
    for port in re.findall(r"<http://127\.0\.0\.1:(\d+)", page):
        assert any(f"127.0.0.1:{port}:" in p for s in services.values() for p in s.get("ports", [])), port
    names = set(get_command(application()).commands)  # type: ignore[attr-defined]  # a group of commands
    assert set(re.findall(r"`hippotune (\w+)", page)) <= names


def test_the_picture_of_the_house_shows_every_room() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"deploy", "tests"}
    for room in rooms:
        assert f"`{room}/`" in page, room
