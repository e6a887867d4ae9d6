"""How well labelled images are answered: counted from answers, and by the command against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hippotune.client import Client
from hippotune.demo.data import DemoTask
from hippotune.evaluation import as_kept, compared, strange_share
from hippotune.output import Exit
from hippotune.records import Budget, Classification, Prediction, Timings
from service.uploads.text import check_text
from tests.hippotune.conftest import Up, hippotune


def answer(label: str, score: float, familiarity: float | None) -> Classification:
    predictions = (Prediction(label, score), Prediction("other", 1 - score))
    return Classification(
        "id", predictions, 3, Budget(4, 0.0, 10), (), Timings(0, 0, 0, 0, 0), None, familiarity
    )


def test_answers_are_counted_label_by_label() -> None:
    answers = [
        ("ant", answer("ant", 0.9, 0.5)),
        ("ant", answer("bee", 0.8, 0.001)),
        ("ant", answer("bee", 0.6, None)),
        ("ant", answer("cow", 0.5, 0.4)),
        ("bee", answer("bee", 0.7, 0.3)),
        ("dog", answer("cow", 0.5, 0.2)),
    ]
    found = compared(answers, (), (3,), {"ant", "bee", "cow"})
    assert (found.images, found.right) == (6, pytest.approx(2 / 6))
    assert found.class_right == pytest.approx((0.25 + 1 + 0) / 3)
    assert found.score == pytest.approx((0.9 + 0.8 + 0.6 + 0.5 + 0.7 + 0.5) / 6)
    assert found.strange == pytest.approx(1 / 5), "of those that tell"
    assert found.untaught == ("dog",)
    assert [each.label for each in found.classes] == ["dog", "ant", "bee"], "the worst first"
    assert dict(found.classes[1].taken_for) == {"bee": 2, "cow": 1}


def test_what_is_strange_is_a_share_of_what_was_told() -> None:
    assert strange_share([0.001, None, 0.5, 0.01, 0.0099]) == 0.5
    assert strange_share([None]) is None


@pytest.fixture
def folder(tasks: list[DemoTask], tmp_path: Path) -> Path:
    """New images of the labels taught, one of a label that was not, and one that is no image."""
    images = [*tasks[0].test, tasks[1].test[0]]
    for number, example in enumerate(images):
        label = example.label if example in tasks[0].test else "never taught"
        path = tmp_path / "new" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example.image)
    (tmp_path / "new" / "0" / "broken.png").write_bytes(images[0].image[:60])
    return tmp_path / "new"


def test_the_command_agrees_with_the_answers(server: Up, client: Client, folder: Path) -> None:
    result = hippotune("evaluate", folder, "--url", server.address, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    files = [path for path in folder.glob("*/*.png") if path.name != "broken.png"]
    right = [client.classify(path).label == path.parent.name for path in files]
    assert (found["images"], found["right"]) == (len(files), pytest.approx(sum(right) / len(right)))
    assert sum(each["images"] for each in found["classes"]) == len(files)
    assert found["untaught"] == ["never taught"]
    (problem,) = found["problems"]
    assert problem["image"].endswith("broken.png")
    assert "never taught" in result.stderr
    assert "1 image not answered" in result.stderr


def test_people_see_a_line_a_label(server: Up, folder: Path) -> None:
    result = hippotune("evaluate", folder, "--url", server.address, "--per-class", "2", "--tmax", "1")
    assert result.returncode == 0, result.stderr
    title, *_ = result.stdout.splitlines()
    assert "right" in title
    assert "mean over labels" in title
    assert all(label in result.stdout for label in ("taken for", "0", "1"))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("new.zip", b"PK\x05\x06" + bytes(18), "new.zip is an archive; unpack it"),
        ("new.tar", bytes(10240), "new.tar is an archive; unpack it"),
        ("rose.jpg", b"", "rose.jpg is one image; `hippotune classify` asks about it"),
        ("rose", b"\xff\xd8\xff\xe0", "rose is one image; `hippotune classify` asks about it"),
        ("notes.txt", b"ant, bee", "notes.txt is no folder, .csv or .parquet"),
    ],
)
def test_a_file_that_is_no_source_is_told_what_it_is(
    name: str, content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    result = hippotune("evaluate", tmp_path / name, "--url", "http://127.0.0.1:9")
    assert result.returncode == 2
    assert told in result.stderr


def test_images_that_no_one_can_read_are_an_error(server: Up, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = hippotune("evaluate", tmp_path, "--url", server.address)
    assert result.returncode == Exit.FAILED
    assert "none of 1 images was answered" in result.stderr


def test_labels_count_as_a_server_keeps_them(tmp_path: Path, server: Up, tasks: list[DemoTask]) -> None:
    """Archives of old macOS disks take accents apart, tables leave white space: teaching takes both for one label."""
    image = tmp_path / "0.png"
    image.write_bytes(tasks[0].test[0].image)
    label = tasks[0].test[0].label
    table = tmp_path / "new.csv"
    table.write_text(f"path,label\n0.png, {label} \n0.png,cafe\u0301\n", encoding="utf-8")
    found = json.loads(hippotune("evaluate", table, "--url", server.address, "--json").stdout)
    assert {each["label"] for each in found["classes"]} == {label, "café"}
    assert found["untaught"] == ["café"]


@pytest.mark.parametrize("label", ["\ufeff cafe\u0301 ", "plain", "\u200dwith marks\u200d"])
def test_both_ends_spell_a_label_alike(label: str) -> None:
    assert as_kept(label) == check_text("label", label)
