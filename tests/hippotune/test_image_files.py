"""Folders of labelled images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hippotune.image_files import FilesLeftOut, labelled_files, media_type


def test_the_folder_is_the_label(tree: Path) -> None:
    found = [(path.name, label) for path, label in labelled_files(tree)]
    assert found == [("1.jpg", "cats"), ("2.PNG", "cats"), ("3.webp", "old")]


def test_jpegs_have_four_names(tree: Path) -> None:
    for name in ("cats/3.jfif", "cats/4.JPE"):
        (tree / name).write_bytes(b"x")
    assert [path.name for path, _ in labelled_files(tree)][2:4] == ["3.jfif", "4.JPE"]


def test_what_desktops_and_tools_leave_is_no_image(tree: Path) -> None:
    before = labelled_files(tree)
    hidden = ("cats/._1.jpg", ".trash/3.jpg", "cats/.ipynb_checkpoints/1.jpg")
    for name in (*hidden, "__MACOSX/cats/1.jpg", "cats/Thumbs.db", "dogs/desktop.ini"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"x")
    assert labelled_files(tree) == before


def test_links_to_folders_are_followed_and_circles_of_them_end(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "4.jpg").write_bytes(b"linked")
    (tree / "foxes").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tree)
    found = [(path.name, label) for path, label in labelled_files(tree)]
    assert found == [("1.jpg", "cats"), ("2.PNG", "cats"), ("3.webp", "old"), ("4.jpg", "foxes")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_told(tree: Path) -> None:
    (tree / "dogs").chmod(0)
    with pytest.raises(PermissionError):
        labelled_files(tree)
    (tree / "dogs").chmod(0o700)


def test_an_image_without_a_label_is_told(tree: Path) -> None:
    (tree / "stray.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"stray\.png has no label"):
        labelled_files(tree)


def test_nothing_to_learn_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no image"):
        labelled_files(tmp_path)


def test_files_left_out_are_counted_by_suffix(tree: Path) -> None:
    for name in ("cats/4.bmp", "cats/5.BMP", "dogs/6.heic", "dogs/7"):
        (tree / name).write_bytes(b"x")
    (tree / "dogs" / "8.jpg").symlink_to(tree / "gone.jpg")
    told = r"tree: left out 2 \.bmp, 1 \.heic, 1 without suffix, 1 link to nothing; images are \.jpeg, "
    with pytest.warns(FilesLeftOut, match=told):
        assert len(labelled_files(tree)) == 3
    for letter in "abcdefg":
        (tree / f"cats/9.{letter}").write_bytes(b"x")
    with pytest.warns(FilesLeftOut, match=r"left out 2 \.bmp, 1 \.a, .*, 6 others; "):
        labelled_files(tree)


def test_a_folder_of_other_files_says_what_it_holds(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "cats").mkdir(exist_ok=True)
        (tmp_path / "cats" / f"{number}.tif").write_bytes(b"x")
    with pytest.raises(
        ValueError, match=r"holds no image; expected .*/LABEL/IMAGE with .*; there is 3 \.tif$"
    ):
        labelled_files(tmp_path)


def test_media_types_are_read_from_the_bytes() -> None:
    assert media_type(b"\xff\xd8\xff\xe0") == "image/jpeg"
    assert media_type(b"\x89PNG\r\n\x1a\n....") == "image/png"
    assert media_type(b"RIFF\0\0\0\0WEBPVP8 ") == "image/webp"
    assert media_type(b"GIF89a") == "application/octet-stream"
