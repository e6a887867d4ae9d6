"""Archives of labelled images, and what each image is called in them."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hippotune import Client, Refused
from hippotune.packing import Source, TaskLimits, Unfit, as_archive, packed
from service.uploads.inspection import short
from tests.hippotune.conftest import Up


def test_a_file_may_be_older_than_any_zip(tree: Path) -> None:
    os.utime(tree / "cats" / "1.jpg", (0, 0))
    with as_archive(tree) as (path, _):
        assert len(zipfile.ZipFile(path).namelist()) == 3


def test_a_folder_becomes_a_zip_for_as_long_as_needed(tree: Path) -> None:
    with as_archive(tree) as (path, media):
        assert media == "application/zip"
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
    assert not path.exists()
    assert {name.split("/")[0]: data for name, data in contents.items()}["old"] == b"dogs/old/3.webp"
    assert len(contents) == 3


def test_archives_are_known_by_their_contents(tree: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "data", "w") as archive:
        archive.add(tree, ".")
    with as_archive(tmp_path / "data") as (path, media):
        assert (path, media) == (tmp_path / "data", "application/x-tar")


def test_what_is_neither_is_told(tree: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"neither a folder.* tables, .*end in \.csv"),
        as_archive(tree / "cats" / "1.jpg"),
    ):
        pass
    with pytest.raises(FileNotFoundError), as_archive(tree / "missing"):
        pass


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    "label", ["", "a/b", "a\\b", "a\0b", "a:b", ".hidden", "Thumbs.db", os.fsdecode(b"caf\xe9")]
)
def test_a_label_that_would_be_lost_on_the_way_is_told(label: str) -> None:
    source = Source("set", [label], lambda _: PNG)
    with (
        pytest.raises(ValueError, match="cannot name a folder"),
        packed(source, TaskLimits(10, 1000)) as archives,
    ):
        list(archives)


def names(source: Source) -> list[str]:
    with packed(source, TaskLimits()) as archives:
        return [name for path, _ in archives for name in zipfile.ZipFile(path).namelist()]


def test_images_are_called_as_their_files(tree: Path) -> None:
    with as_archive(tree) as (path, _):
        called = zipfile.ZipFile(path).namelist()
    assert called == ["cats/0000000-1.jpg", "cats/0000001-2.PNG", "old/0000002-3.webp"]


def test_a_name_says_the_row_and_tells_the_truth_of_the_bytes() -> None:
    files = ["IMG_2034.JPG", "a.png", "same.jpg", "same.jpg", None, "photo.bmp", "v1.2"]
    image = {0: b"\xff\xd8\xff", 2: b"\xff\xd8\xff", 3: b"\xff\xd8\xff", 6: b"\xff\xd8\xff"}
    source = Source(
        "set",
        list("bbbbbaa"),
        lambda row: image.get(row, PNG),
        lambda row: files[row] and Path("x", files[row]),
    )
    assert names(source) == [
        "a/0000005-photo.bmp.png",
        "a/0000006-v1.2.jpeg",
        "b/0000000-IMG_2034.JPG",
        "b/0000001-a.png",
        "b/0000002-same.jpg",
        "b/0000003-same.jpg",
        "b/row-0000004.png",
    ]
    assert names(source.only(1)) == ["a/0000005-photo.bmp.png", "b/0000000-IMG_2034.JPG"]


@pytest.mark.parametrize(
    ("file", "called"),
    [
        (os.fsdecode(b"caf\xe9.png"), "caf?.png"),
        ("a\\b.png", "a_b.png"),
        ("käfer 🪲 [1].png", "käfer 🪲 [1].png"),
        ("n" * 240 + "1.png", "n" * 95 + "1.png"),
    ],
    ids=["no text", "backslash", "emoji", "long"],
)
def test_any_file_may_be_sent_and_servers_know_it_again(
    server: Up, tmp_path: Path, file: str, called: str
) -> None:
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "cat" / file).write_bytes(PNG)
    with Client(server.address) as client, pytest.raises(Refused) as in_a_folder:
        client.submit(tmp_path / "set")
    assert in_a_folder.value.problem["errors"][0]["field"] == f"files[0] {short(f'cat/0000000-{called}')!r}"
    with Client(server.address) as client, pytest.raises(Refused) as alone:
        client.submit([(tmp_path / "set" / "cat" / file, "cat"), (PNG, "cat")])
    assert [error["field"] for error in alone.value.problem["errors"]] == [
        f"files[0] {short(called)!r}",
        "files[1] '1'",
    ]


def unfit(*rows: int) -> Callable[[int], bytes]:
    def load(row: int) -> bytes:
        if row in rows:
            raise Unfit("is empty")
        return PNG

    return load


def test_all_that_cannot_be_sent_of_a_task_is_told_and_no_other_task_waits_for_it() -> None:
    source = Source("set", list("aaaabbbb"), unfit(5, 6), lambda row: Path(f"{row}.png"))
    with packed(source, TaskLimits(4)) as archives:
        assert next(archives)[1] == 4
        with pytest.raises(Unfit, match=r"^5\.png is empty; 6\.png is empty$"):
            next(archives)
    with (
        packed(Source("set", list("aaaabbbb"), unfit(1, 6)), TaskLimits(4)) as archives,
        pytest.raises(Unfit, match=r"^row 1 of set is empty$"),
    ):
        next(archives)
    many = Source("set", ["a"] * 1000, unfit(*range(1000)))
    with (
        packed(many, TaskLimits()) as archives,
        pytest.raises(Unfit, match=r"; and 80 more; others were not looked at$"),
    ):
        next(archives)


def test_large_sets_are_cut_between_classes() -> None:
    labels = ["a"] * 3 + ["b"] * 3 + ["c"] * 3 + ["d"] * 12
    source = Source("many", labels, lambda number: b"\x89PNG\r\n\x1a\n" + bytes([number]) * 100)

    def cut(limits: TaskLimits) -> list[list[str]]:
        with packed(source, limits) as archives:
            found = []
            for path, count in archives:
                names = zipfile.ZipFile(path).namelist()
                assert len(names) == count
                found.append([name[0] for name in names])
        return found

    assert ["".join(part) for part in cut(TaskLimits(7, 10**6))] == ["aaabbb", "ccc" + "d" * 4, "d" * 7, "d"]
    assert ["".join(part) for part in cut(TaskLimits(100, 10**6))] == ["".join(labels)]
    assert ["".join(part) for part in cut(TaskLimits(labels=2))] == ["aaabbb", "ccc" + "d" * 12]
    sizes = [len(part) for part in cut(TaskLimits(100, 5 * (109 + 256)))]
    assert sum(sizes) == 21
    assert max(sizes) <= 5
