"""What commands print, whatever is in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hippotune.commands.images import print_answers, print_trace
from hippotune.errors import Refused
from hippotune.listings import print_versions
from hippotune.output import print_error, print_json, print_record, print_table, print_untold
from hippotune.records import Budget, Classification, Timings, Version
from tests.hippotune.conftest import ROOT, hippotune

ODD = [":rose:", "[red]x", "\\[/b]", "a\\", "[/]"]


@pytest.mark.parametrize("text", ODD)
def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], text: str) -> None:
    print_table("odd", ["label"], [[text]])
    print_record([("label", text)])
    told = capsys.readouterr().out
    assert [line.removeprefix("label").strip() for line in told.splitlines()].count(text) == 2, told
    print_error(text)
    assert capsys.readouterr().err == f"error: {text}\n"


def test_a_record_in_a_pipe_is_neither_cut_nor_filled_up(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ", ".join(str(number) for number in range(1000))
    print_record([("id", "7"), ("nothing", None), ("labels", labels)])
    assert capsys.readouterr().out.splitlines() == ["id      7", f"labels  {labels}"]


def test_accuracy_tells_on_how_many_images_it_rests(capsys: pytest.CaptureFixture[str]) -> None:
    for metrics, told in (
        ({"accuracy": 1.0, "held_out_images": 3.0}, "100.0% of 3"),
        ({"accuracy": 0.5}, "50.0%"),
        ({}, ""),
    ):
        print_versions([Version(1, "consolidated", ("ant",), (), (), None, 0, 0.0, metrics, True, None)])
        line = next(line for line in capsys.readouterr().out.splitlines() if "consolidated" in line)
        assert re.findall(r"[\d.]+%.*?(?=  |$)", line) == ([told] if told else [])


def test_what_is_new_in_a_version_is_named_as_far_as_there_is_room(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = tuple("abcdefghij")
    listed = Version(2, "fast", (), (), (), 1, label_count=1234, new_label_count=1000, new_labels=names)
    print_versions([listed])
    told = capsys.readouterr().out
    assert "1234" in told
    assert "a, b, c, d, e, f and 994 more" in told


def test_an_error_is_one_line_where_nobody_reads_along(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("errors", [None, "none", ["none"], {"field": "none"}])
def test_problems_of_another_server_are_not_read_as_ours(
    capsys: pytest.CaptureFixture[str], errors: object
) -> None:
    print_untold(Refused(422, {"detail": "no", "errors": errors}))
    assert capsys.readouterr().err == ""


def test_what_a_detail_leaves_out_is_told_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    listed = [
        {"field": f"files[{n}] '[red]{n}'", "value": "is empty", "allowed": "be a JPEG"} for n in range(3)
    ]
    print_untold(Refused(422, {"detail": "files[1] '[red]1' is empty; and 2 more", "errors": listed}))
    told = [f"files[{n}] '[red]{n}' is empty; it must be a JPEG" for n in (0, 2)]
    assert capsys.readouterr().err.splitlines() == told


def test_a_title_longer_than_its_table_stays_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("a title of several words", ["a"], [["b"]])
    assert capsys.readouterr().out.splitlines()[0] == "a title of several words"


def test_a_trace_of_no_slots_is_no_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_trace("rose.jpg", [])
    assert capsys.readouterr().out == "rose.jpg: nothing recalled, as this version has no slots\n"


def test_all_versions_that_answered_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(version: int) -> tuple[Path, Classification]:
        timings, budget = Timings(1, 1, 1, 1, 4), Budget(tmax=4, epsilon=0, topk=10)
        return Path("a.jpg"), Classification("id", (), version, budget, (), timings)

    for answered, told in (((3, 3), "version 3, tmax 4"), ((4, 3, 4), "versions 3, 4, tmax 4")):
        print_answers([answer(version) for version in answered])
        assert capsys.readouterr().out.startswith(told)


def test_a_file_whose_name_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(os.fsdecode(b"bad\xff.jpg"))
    print_json([{"file": path}])
    assert json.loads(capsys.readouterr().out) == [{"file": "bad\\udcff.jpg"}]
    print_table("odd", ["image"], [[path]])
    assert "bad\\udcff.jpg" in capsys.readouterr().out


def test_json_is_utf_8_in_any_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    keys = tmp_path / "schlüssel"
    told = hippotune("keys", "new", "--role", "classify", "--name", "app", "--file", keys, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["file"] == str(keys)


@pytest.mark.parametrize("url", ["localhost:8000", "http://127.0.0.1:80a"])
def test_an_address_that_is_none_is_wrong_usage(url: str) -> None:
    found = hippotune("tasks", "--url", url)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count(url) == 1
    assert "no address of a server" in found.stderr
    assert "HIPPOTUNE_URL" in found.stderr


def test_a_client_installed_alone_has_no_command_line_and_says_so() -> None:
    code = "import sys; sys.modules['typer'] = None; from hippotune.__main__ import main; main()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 1
    assert "needs typer" in found.stderr
    assert "Traceback" not in found.stderr


def test_no_command_waits_for_what_only_some_need() -> None:
    heavy = ("torch", "numpy", "PIL", "redis", "fastapi", "uvicorn", "datasets")
    code = (
        f"import sys, hippotune.main as m; m.application(); print([n for n in {heavy} if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"
