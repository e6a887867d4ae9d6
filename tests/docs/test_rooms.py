"""The docstring of a room with many modules is a map of it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.docs.test_site import ROOT


@pytest.mark.parametrize("room", ["exchange", "model", "service", "trainer"])
def test_the_map_of_a_room_names_each_of_its_modules_once_where_it_lies(room: str) -> None:
    described = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
    assert described is not None
    named: defaultdict[str, list[str]] = defaultdict(list)
    rows = re.sub(r",\n {20}", ", ", described)  # a long one goes on in the next line
    for row, names in re.findall(r"^    (?=\S)(.{16})(.*)$", rows, flags=re.MULTILINE):
        folder = row.strip() if (ROOT / room / row.strip()).is_dir() else "."
        named[folder] += names.split(", ")
    assert {folder: sorted(names) for folder, names in named.items()} == modules(ROOT / room)


def modules(room: Path) -> dict[str, list[str]]:
    """Those of each folder, by its path below the room."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(room.rglob("*.py")):
        if path.stem != "__init__":
            found[str(path.parent.relative_to(room))].append(path.stem)
    return dict(found)
