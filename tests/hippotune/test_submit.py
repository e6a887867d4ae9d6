"""`hippotune submit` of folders in which some images cannot be read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from hippotune.client import Client
from tests.hippotune.conftest import Up, hippotune
from tests.service.support import picture

HEIC = b"\0\0\0\x18ftypheic" + bytes(100)


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Four images of each of three labels, of which one, none and all but one can be read."""
    good = {f"{label}/{n}.png": picture(n) for label in ("ant", "bee", "cow") for n in range(4)}
    bad = {"cow/0.png": b"", "cow/1.png": HEIC, "cow/2.png": picture()[:-100], "ant/0.png": picture()[:300]}
    return write(tmp_path / "zoo", good | bad)


def read(text: str) -> str:
    """Stderr without the frame and the line breaks that a terminal gets."""
    return " ".join(text.replace("│", " ").split())


def test_damaged_images_are_left_out_on_request_and_told_at_the_end(server: Up, zoo: Path) -> None:
    arguments = ("submit", zoo, "--skip-damaged", "--task-images", "5", "--json", "--url", server.address)
    result = hippotune(*arguments)
    assert result.returncode == 0, result.stderr
    tasks = json.loads(result.stdout)
    # The one cow that is left fits beside the bees, which do not beside the ants.
    assert [(task["images"], task["labels"]) for task in tasks] == [(3, ["ant"]), (5, ["bee", "cow"])]
    assert re.search(r"handing in zoo .* 8/8", result.stderr)
    assert result.stderr.splitlines()[-1] == (
        f"note: zoo: left out 4 of 12 images: {zoo}/ant/0.png is a damaged or truncated PNG file; "
        f"{zoo}/cow/0.png is empty; {zoo}/cow/1.png is no image that can be read; "
        f"{zoo}/cow/2.png is a damaged or truncated PNG file"
    )


def test_a_folder_of_which_nothing_is_left_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "zoo", {f"ant/{n}.jpg": b"text" for n in range(7)})
    result = hippotune("submit", folder, "--skip-damaged", "--url", "http://127.0.0.1:9")
    assert result.returncode == 2
    assert "none of the 7 images of zoo can be sent" in read(result.stderr)
    assert "left out 7 of 7 images" in result.stderr
    assert "ant/4.jpg is no image that can be read; and 2 more" in result.stderr


def test_by_default_nothing_is_left_out_and_all_that_is_wrong_is_told(server: Up, zoo: Path) -> None:
    result = hippotune("submit", zoo, "--url", server.address)
    assert result.returncode == 2
    told = read(result.stderr)
    assert f"{zoo}/cow/0.png is empty; {zoo}/cow/1.png is no image that can be read. --skip-damaged" in told


def test_all_that_the_server_refuses_is_told(server: Up, client: Client, tmp_path: Path) -> None:
    before = len(client.tasks())
    folder = write(tmp_path / "zoo", {f"ant/IMG_{n}.jpg": picture(n)[:-100] for n in range(9)})
    result = hippotune("submit", folder, "--url", server.address)
    assert result.returncode == 4
    assert "422: 9 of 9 images cannot be learned: files[0] 'ant/0000000-IMG_0.jpg.png' is a" in result.stderr
    for n in range(9):
        assert result.stderr.count(f"IMG_{n}.jpg.png' is a damaged or truncated PNG file") == 1
    assert "--skip-damaged leaves out images that are damaged" in result.stderr
    assert len(client.tasks()) == before


def test_an_archive_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "zoo.zip").write_bytes(b"PK")
    result = hippotune("submit", tmp_path / "zoo.zip", "--skip-damaged", "--per-class", "1")
    assert result.returncode == 2
    assert "unpack it to choose images by --per-class and --skip-damaged" in read(result.stderr)


def test_names_that_are_no_text_do_no_harm(server: Up, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    folder = write(tmp_path / odd, {f"ant/{odd}.png": picture(), f"ant/{odd}2.png": HEIC})
    result = hippotune("submit", folder, "--skip-damaged", "--json", "--url", server.address)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["name"] == "caf?"
    assert r"caf\udce92.png is no image that can be read" in result.stderr
