"""The command line as scripts see it: stdout, stderr and exit codes, against a real server."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.main import get_command

from hippotune import doctor
from hippotune.client import Client
from hippotune.demo.data import DemoTask
from hippotune.main import application
from hippotune.settings import Settings
from model.merging import LEAST_KEEP
from tests.hippotune.conftest import ROOT, Up, clean_environment, hippotune, settle


def told(result: subprocess.CompletedProcess[str]) -> object:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def digit(tasks: list[DemoTask], tmp_path: Path) -> Path:
    path = tmp_path / "one.png"
    path.write_bytes(tasks[0].test[-1].image)
    return path


@pytest.fixture
def folder(tasks: list[DemoTask], tmp_path: Path) -> Path:
    for number, example in enumerate(tasks[1].train):
        path = tmp_path / "two and three" / example.label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example.image)
    return tmp_path / "two and three"


def test_classify(server: Up, digit: Path) -> None:
    arguments = (
        "classify",
        digit,
        digit,
        "--url",
        server.address,
        "--tmax",
        "2",
        "--label",
        "0",
        "--explain",
    )
    first, second = told(hippotune(*arguments, "--json"))
    assert first["file"] == str(digit)
    assert first["answer"]["budget"]["tmax"] == 2
    assert [p["label"] for p in first["answer"]["predictions"]] == ["0"]
    assert first["answer"]["predictions"] == second["answer"]["predictions"]
    assert first["answer"]["trace"]
    text = hippotune(*arguments)
    assert text.returncode == 0
    assert "tmax 2" in text.stdout
    for layer in first["answer"]["trace"]:
        best = layer["steps"][0][0]
        assert re.search(
            rf"^ *{layer['layer']} +{best['slot']}, {best['weight']:.0%}", text.stdout, re.MULTILINE
        )


def test_an_answer_has_as_many_labels_as_asked_for(server: Up, digit: Path) -> None:
    arguments = ("classify", digit, "--url", server.address)
    (usual,) = told(hippotune(*arguments, "--json"))
    best, second, *_ = usual["answer"]["predictions"]
    (asked,) = told(hippotune(*arguments, "--top", "1", "--json"))
    assert asked["answer"]["predictions"] == [best]
    after = f"{second['label']} {second['score']:.2f}"
    assert after in hippotune(*arguments, "--top", "2").stdout
    assert after not in hippotune(*arguments, "--top", "1").stdout


def test_submit_waits_and_the_lists_know_it(server: Up, folder: Path) -> None:
    url = ("--url", server.address)
    task = told(hippotune("submit", folder, "--wait-s", "100", "--json", *url))
    assert (task["name"], task["state"], task["labels"]) == ("two and three", "consolidated", ["2", "3"])
    assert told(hippotune("tasks", task["id"], "--json", *url))["id"] == task["id"]
    assert task["id"] in {item["id"] for item in told(hippotune("tasks", "--json", *url))}
    listed = hippotune("tasks", *url).stdout
    assert "two and three" in listed
    assert "newest" not in listed
    assert hippotune("tasks", "--limit", "1", *url).stdout.startswith("newest 1 task")
    [newest] = told(hippotune("tasks", "--state", "consolidated", "--limit", "1", "--json", *url))
    assert newest["id"] == task["id"]
    failed = told(hippotune("tasks", "--state", "failed", "--json", *url))
    assert task["id"] not in {item["id"] for item in failed}
    for wrong in (("--state", "lost"), ("--limit", "0"), (task["id"], "--state", "failed")):
        assert hippotune("tasks", *wrong, *url).returncode == 2

    versions = told(hippotune("versions", "--json", *url))
    newest = versions[0]["version"]
    assert told(hippotune("versions", str(newest), "--json", *url))["version"] == newest
    assert "served" in hippotune("versions", *url).stdout
    assert told(hippotune("activate", str(versions[-1]["version"]), "--json", *url))["current"]
    assert f"version {newest} is now served" in hippotune("activate", str(newest), *url).stdout


def test_what_a_folder_holds_beside_images_is_told_and_json_stays_json(server: Up, folder: Path) -> None:
    for name in ("0.bmp", "1.BMP", "2.gif"):
        (folder / "2" / name).write_bytes(b"x")
    arguments = ("submit", folder, "--name", "with others", "--url", server.address)
    for form in ((), ("--json",)):
        result = hippotune(*arguments, *form)
        line = f"note: {folder}: left out 2 .bmp, 1 .gif; images are .jpeg, .jpg, .jpe, .jfif, .png, .webp\n"
        assert line in result.stderr
    assert told(result)["labels"] == ["2", "3"]
    for image in folder.rglob("*.png"):
        image.unlink()
    refused = hippotune(*arguments)
    assert refused.returncode == 2
    assert "holds no image" in refused.stderr
    assert "there is 2 .bmp, 1 .gif" in " ".join(refused.stderr.replace("│", "").split())


def test_whether_the_loop_is_alive_is_told_to_people_and_to_prometheus(server: Up, client: Client) -> None:
    version = next(version for version in client.versions() if "spread_ratio" in version.metrics)
    record = hippotune("versions", str(version.version), "--url", server.address).stdout
    scraped = httpx.get(f"{server.address}/metrics").text
    for figure in ("retrieval_entropy", "slot_use", "spread_ratio", "retrieval_steps", "spectral_radius"):
        assert f"{figure.replace('_', ' ')} " in record
        told = re.search(rf"^hippotune_trainer_{figure} (\S+)$", scraped, re.MULTILINE)
        assert told is not None
        assert math.isfinite(float(told[1])), figure


def test_while_the_store_is_away_nobody_is_told_that_there_are_no_versions(server: Up) -> None:
    folder = server.store / "versions"
    settle(server)  # a version published meanwhile would make the folder anew
    away = folder.rename(server.store / "away")
    try:
        listed = hippotune("versions", "--url", server.address)
        found = doctor.server(Settings(url=server.address))
    finally:
        away.rename(folder)
    told = "503: versions cannot be listed: the store holds none of those that were published"
    assert listed.returncode == 5
    assert told in listed.stderr
    assert told in found.found
    assert "bring back" in found.advice


def test_what_was_learned_is_forgotten_and_only_what_failed_is_tried_again(
    server: Up, tasks: list[DemoTask], tmp_path: Path
) -> None:
    url = ("--url", server.address)
    (tmp_path / "gone" / "gone").mkdir(parents=True)
    (tmp_path / "gone" / "gone" / "0.png").write_bytes(tasks[0].train[0].image)
    task = told(hippotune("submit", tmp_path / "gone", "--wait", "--json", *url))["id"]
    refused = hippotune("tasks", "retry", task, *url)
    assert refused.returncode == 4
    assert "is consolidated; it must have failed to be tried again" in " ".join(refused.stderr.split())
    assert told(hippotune("forget", task, "--wait", "--json", *url))["state"] == "forgotten"
    current = next(version for version in told(hippotune("versions", "--json", *url)) if version["current"])
    assert "gone" not in current["labels"]
    assert "0" in current["labels"]


def test_feedback(server: Up, digit: Path) -> None:
    (asked,) = told(hippotune("classify", digit, "--json", "--url", server.address))
    arguments = ("feedback", asked["answer"]["id"], "seven", "--wait", "--json", "--url", server.address)
    task = told(hippotune(*arguments))
    assert (task["labels"], task["state"]) == (["seven"], "consolidated")
    stale = hippotune("feedback", f"{0:08x}-{0:024x}", "seven", "--url", server.address)
    assert stale.returncode == 4
    assert "POST /tasks instead" in " ".join(stale.stderr.split())


def test_tasks_handed_in_before_a_broken_image_are_named(server: Up, client: Client, folder: Path) -> None:
    first = len(list((folder / "2").iterdir()))
    (folder / "3" / "last.png").write_bytes(b"<html>404</html>")
    result = hippotune("submit", folder, "--task-images", str(first), "--url", server.address)
    assert result.returncode == 2
    assert "is no image that can be read" in " ".join(result.stderr.replace("│", "").split())
    named = re.search(r"handed in before that, and learned all the same: (\w+)\n", result.stderr)
    assert named is not None
    assert client.task(named[1]).labels == ("2",)


def test_the_same_key_makes_the_same_task(server: Up, folder: Path) -> None:
    arguments = ("submit", folder, "--key", "from-a-script", "--json", "--url", server.address)
    assert told(hippotune(*arguments))["id"] == told(hippotune(*arguments))["id"]


def test_a_name_that_looks_like_markup_is_taken_as_it_is(server: Up, folder: Path) -> None:
    result = hippotune("submit", folder, "--name", "[/b]", "--json", "--url", server.address)
    assert told(result)["name"] == "[/b]"
    assert "handing in [/b]" in result.stderr


def test_an_archive_is_handed_in_whole(tmp_path: Path) -> None:
    archive = tmp_path / "flowers.tar"
    with tarfile.open(archive, "w"):
        pass
    asked = hippotune("submit", archive, "--per-class", "1")
    assert asked.returncode == 2
    assert "is handed in whole; unpack it" in " ".join(asked.stderr.split())


def test_a_budget_of_tokens_and_of_time_is_granted_and_told(server: Up, digit: Path) -> None:
    arguments = ("classify", digit, "--url", server.address, "--keep", "0.8")
    (kept,) = told(hippotune(*arguments, "--json"))
    assert kept["answer"]["budget"]["keep"] == 0.8
    (hurried,) = told(hippotune(*arguments, "--budget-ms", "0.001", "--json"))
    assert hurried["answer"]["budget"]["keep"] == LEAST_KEEP
    assert "keep 0.8" in hippotune(*arguments, "--budget-ms", "60000").stdout
    late = hippotune(*arguments, "--timeout-ms", "1")
    assert late.returncode == 4
    assert "504" in late.stderr  # in the queue or in the engine, as it happens


def test_bench(server: Up, digit: Path) -> None:
    arguments = ("bench", digit, "--requests", "5", "--url", server.address)
    usual = told(hippotune(*arguments, "--json"))
    assert [one["asked"] for one in usual] == [{"tmax": 1}, {"tmax": 4}]
    flags = ("--tmax", "1", "--tmax", "3", "--keep", "1", "--keep", "0.6")
    measured = told(hippotune(*arguments, *flags, "--json"))
    assert [tuple(one["asked"].values()) for one in measured] == [(1, 1), (1, 0.6), (3, 1), (3, 0.6)]
    for one in measured:
        found = one["measured"]
        assert 0 < found["p50"] <= found["p99"]
        assert (found["failed"], found["keep"]) == (0, one["asked"]["keep"])
    (hurried,) = told(hippotune(*arguments, "--budget-ms", "0.001", "--json"))
    assert hurried["measured"]["keep"] == LEAST_KEEP
    table = hippotune(*arguments, *flags).stdout
    assert "p99 ms" in table
    assert "tmax 3, keep 0.6" in table


def test_a_server_that_refuses_is_4(server: Up, digit: Path) -> None:
    result = hippotune("classify", digit, "--tmax", "99", "--url", server.address)
    assert result.returncode == 4
    assert "tmax" in result.stderr
    assert result.stdout == ""
    assert hippotune("forget", "no-such-task", "--url", server.address).returncode == 4


def test_of_many_files_those_that_are_refused_are_named_and_the_others_answered(
    server: Up, digit: Path, tmp_path: Path
) -> None:
    odd, cut = tmp_path / "odd.jpg", tmp_path / "cut.png"
    odd.write_bytes(b"<html>404</html>")
    cut.write_bytes(digit.read_bytes()[:60])
    files = (odd, digit, cut, "--url", server.address)
    result = hippotune("classify", *files)
    assert result.returncode == 4
    assert f"error: 415: {odd}: body is a web page" in result.stderr
    assert f"error: 422: {cut}: " in result.stderr
    assert digit.name in result.stdout
    rows = json.loads(hippotune("classify", *files, "--json").stdout)
    assert [(row["file"], *row) for row in rows] == [
        (str(odd), "file", "problem"),
        (str(digit), "file", "answer"),
        (str(cut), "file", "problem"),
    ]
    assert [rows[place]["problem"]["status"] for place in (0, 2)] == [415, 422]


def test_what_every_image_would_meet_with_is_met_with_once(server: Up, digit: Path) -> None:
    result = hippotune("classify", digit, digit, "--url", "http://127.0.0.1:9", "--retries", "0")
    assert result.returncode == 3
    assert result.stderr.count("no server answers") == 1


def test_it_says_which_version_it_is() -> None:
    result = hippotune("--version")
    assert (result.returncode, result.stdout) == (0, f"hippotune {version('hippotune')}\n")


def test_no_server_is_3() -> None:
    result = hippotune("tasks", "--url", "http://127.0.0.1:9", "--retries", "0")
    assert result.returncode == 3
    assert "no server answers at http://127.0.0.1:9: Connection refused" in result.stderr
    assert "`hippotune up` starts one" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_command_line_is_2(server: Up, tmp_path: Path) -> None:
    assert hippotune("classify", tmp_path / "missing.png").returncode == 2
    wrong = hippotune("tasks", "--retries", "many")
    assert wrong.returncode == 2
    assert "--retries" in wrong.stderr
    assert "HIPPOTUNE_RETRIES" in wrong.stderr
    for command in (("forget",), ("tasks",), ("tasks", "retry")):
        nothing = hippotune(*command, "", "--url", server.address)
        assert nothing.returncode == 2
        assert "'' is no id of a task; `hippotune tasks` lists them" in nothing.stderr
    empty = hippotune("submit", tmp_path, "--url", server.address)
    assert empty.returncode == 2
    assert "holds no image" in empty.stderr


def commands(group: Any = None, named: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command by its whole name."""
    group = group or get_command(application())
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*named, name))
        else:
            yield " ".join((*named, name)), command


def test_every_command_has_json_and_a_line_in_the_documentation() -> None:
    text = (ROOT / "docs/command-line.md").read_text()
    table = re.search(r"^\| command \| JSON .*?\n\n", text, re.DOTALL | re.MULTILINE)
    assert table is not None
    told = [
        name
        for line in table[0].rstrip().splitlines()[2:]
        for name in re.findall(r"`([a-z ]+)`", line.split("|")[1])
    ]
    found = dict(commands())
    assert sorted(told) == sorted([*found, "tasks", "labels"]), "`tasks` is `tasks list`"
    for name, command in found.items():
        assert command.help, name
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert ("--json" in flags) == (name != "train"), name


@pytest.mark.skipif(shutil.which("script") is None, reason="no `script`, which is a terminal to a program")
def test_tables_fit_a_terminal_and_keep_what_is_copied(server: Up, client: Client) -> None:
    for columns in ("80", "60", "40"):
        for command in ("tasks", "versions"):
            words = [
                "script",
                "-qec",
                f"stty cols {columns}; {sys.executable} -m hippotune {command}",
                "/dev/null",
            ]
            env = clean_environment() | {"COLUMNS": columns, "HIPPOTUNE_URL": server.address, "NO_COLOR": "1"}
            told = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=env, check=True).stdout
            lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told).splitlines()
            assert max(map(len, lines)) <= int(columns)
            wanted = [task.id for task in client.tasks()] if command == "tasks" else ["served"]
            for each in wanted:
                assert any(each in line for line in lines), each
