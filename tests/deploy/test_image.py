"""The Dockerfile against the checkout it is built from."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tests.deploy.conftest import ROOT

TEXT = (ROOT / "deploy" / "Dockerfile").read_text()
LINES = [line for line in re.sub(r"\\\n\s*", "", TEXT).splitlines() if line and not line.startswith("#")]
STARTS = """
import json
from importlib.util import find_spec
from hippotune.main import application
print(json.dumps([find_spec(room).origin for room in ("model", "exchange", "trainer", "service", "hippotune")]))
application()(["--help"])
"""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in LINES if line.startswith(f"{name} ")]


def copied() -> list[tuple[list[str], str]]:
    """What is taken from the checkout, and where it goes."""
    words = [text.split() for text in instructions("COPY") if not text.startswith("--from")]
    return [(sources, target) for *sources, target in words]


def sent() -> list[str]:
    """What .dockerignore lets through."""
    ignore = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignore
    return [line.removeprefix("!") for line in ignore if line.startswith("!")]


def test_what_is_copied_is_there_and_sent() -> None:
    sources = [source.rstrip("/") for group, _ in copied() for source in group]
    for source in sources:
        assert (ROOT / source).exists(), source
    assert sorted(sources) == sorted(sent())


def test_every_package_is_in_the_image() -> None:
    sources = {source.rstrip("/") for group, _ in copied() for source in group}
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    wanted = {package for package in packages if any(fnmatch(package, pattern) for pattern in patterns)}
    assert wanted
    assert wanted <= sources


def test_it_runs_as_nobody_in_particular(services: dict[str, dict[str, Any]]) -> None:
    (user,) = instructions("USER")
    assert services["server"]["user"] == user
    uid, gid = user.split(":")
    assert f"useradd --uid {uid}" in TEXT
    assert f"groupadd --gid {gid}" in TEXT
    before, after = (TEXT.index(word) for word in ("install -d", "USER "))
    assert before < after


def test_its_commands_are_ours(services: dict[str, dict[str, Any]]) -> None:
    (entry,), (default,) = (json.loads(text) for name in ("ENTRYPOINT", "CMD") for text in instructions(name))
    assert entry in PROJECT["project"]["scripts"]
    assert [default] == services["server"]["command"]
    (check,) = (Path(target) for (source, *_), target in copied() if source.startswith("deploy/"))
    assert str(check) in services["trainer"]["healthcheck"]["test"]


def test_what_it_installs_is_pinned() -> None:
    assert all(base.split()[0] == "python:3.12-slim" for base in instructions("FROM"))
    installs = [line for line in instructions("RUN") if "pip install" in line]
    assert all("-c constraints.txt" in line or "--no-deps" in line for line in installs)
    extras = PROJECT["project"]["optional-dependencies"]
    for service in ("cpu", "gpu"):
        assert service in extras


def test_downloads_go_to_the_volume(services: dict[str, dict[str, Any]]) -> None:
    """Where timm keeps what it loads follows from the variable the image sets."""
    told = dict(word.split("=", 1) for text in instructions("ENV") for word in text.split())
    assert f"models:{told['XDG_CACHE_HOME']}" in services["server"]["volumes"]
    assert f"scratch:{told['TMPDIR']}" in services["server"]["volumes"]
    ours = {n: v for n, v in os.environ.items() if not n.startswith(("HF_", "HUGGINGFACE_", "TORCH_"))}
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=ours | {"XDG_CACHE_HOME": told["XDG_CACHE_HOME"]},
        check=True,
    )
    assert result.stdout.startswith(told["XDG_CACHE_HOME"] + "/")


def test_the_program_starts_from_what_is_copied(tmp_path: Path) -> None:
    """Away from the checkout, every room is found and the command line comes up."""
    for sources, target in copied():
        for source in sources:
            place = tmp_path / (target if source.endswith("/") else Path(source).name)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    result = subprocess.run(
        [sys.executable, "-P", "-c", STARTS],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 0, result.stderr
    assert all(Path(place).is_relative_to(tmp_path) for place in json.loads(result.stdout.splitlines()[0]))
    assert "serve" in result.stdout
    assert (tmp_path / "model/assets/bundled.safetensors").is_file()
