"""The docstring of a room with many modules is a map of it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.test_site import ROOT


@pytest.mark.parametrize("room", ["exchange", "model", "service"])
def test_the_map_of_a_room_names_each_of_its_modules_once(room: str) -> None:
    there = sorted(path.stem for path in (ROOT / room).glob("*.py") if path.stem != "__init__")
    there += sorted(path.parent.name for path in (ROOT / room).glob("*/__init__.py"))
    described = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
    assert described is not None
    rows = re.findall(r"^    (?=\S).{16}(.*)$", described, flags=re.MULTILINE)
    assert sorted(name for row in rows for name in row.split(", ")) == sorted(there)
