"""The house's rules and its pins."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.hippotune.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINNED = {canonicalize_name(Requirement(line).name) for line in LINES}
FOLLOWS_TORCH = re.compile(r"^(nvidia-|cuda-|triton|pytorch-triton)")


def test_who_may_import_whom() -> None:
    linter = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
        "--no-cache",
    ]
    result = subprocess.run(linter, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def test_pins_are_exact_and_name_no_host() -> None:
    for line in LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line), line
    assert len(PINNED) == len(LINES)


def test_every_direct_dependency_is_pinned() -> None:
    assert {canonicalize_name(Requirement(text).name) for text in direct()} <= PINNED


def test_pins_keep_within_the_bounds_of_all_who_ask() -> None:
    pins = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in map(Requirement, LINES)}
    asked = [Requirement(text) for text in direct()]
    for requirement in [*asked, *chain.from_iterable(map(brought_by, asked))]:
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is None or requirement.specifier.contains(pin), f"{requirement} is pinned to {pin}"


def test_everything_they_bring_is_pinned() -> None:
    """As far as it is installed here; the other extras are not."""
    waiting = [Requirement(text) for text in direct()]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen or FOLLOWS_TORCH.match(name):
            continue
        seen.add(str(requirement))
        assert name in PINNED, f"{name} is not pinned"
        waiting += brought_by(requirement)
    assert len(seen) > len(direct())


def direct() -> list[str]:
    return [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())]


def brought_by(requirement: Requirement) -> list[Requirement]:
    """What an installed distribution needs on this machine, with the extras asked for."""
    try:
        found = [Requirement(text) for text in requires(requirement.name) or []]
    except PackageNotFoundError:
        return []
    extras = ["", *requirement.extras]
    return [r for r in found if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]


def test_make_has_its_targets() -> None:
    for target in ("setup", "demo", "test", "check"):
        result = subprocess.run(["make", "-n", target], capture_output=True, text=True, cwd=ROOT)
        assert result.returncode == 0, result.stderr


def test_the_gate_runs_the_tests() -> None:
    gate = ROOT / ".ci" / "run"
    assert gate.stat().st_mode & 0o111
    assert "make test" in gate.read_text()


def test_every_file_that_packages_name_is_there() -> None:
    """Without `py.typed`, say, programs that use the client see Any in its place (PEP 561)."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package, patterns in packages.items():
        folder = ROOT / ("hippotune" if package == "*" else package)
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{folder.name} has no {pattern}"
