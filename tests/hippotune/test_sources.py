"""Image sets of every kind, made by the real libraries, without a network."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hippotune.image_files import media_type
from hippotune.packing import Source, Unfit
from hippotune.sources import open_source, sent_whole
from tests.hippotune.conftest import Up, hippotune

NOWHERE = Path("/nowhere")


def picture(seed: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def rows(root: Path) -> list[tuple[str, str]]:
    """Six images of three labels on disk: (path below root, label)."""
    found = []
    for number, label in enumerate(["ant", "bee", "cow"] * 2):
        path = root / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(number))
        found.append((f"images/{number}.png", label))
    return found


def check(source: Source, name: str) -> None:
    assert (source.name, list(source.labels)) == (name, ["ant", "bee", "cow"] * 2)
    assert [source.load(number) for number in range(6)] == [picture(number) for number in range(6)]


@pytest.mark.parametrize("columns", [("path", "label"), ("file_name", "class")])
def test_a_csv_names_paths_and_labels(tmp_path: Path, columns: tuple[str, str]) -> None:
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows(tmp_path)])
    check(open_source(str(tmp_path / "list.csv"), NOWHERE), "list")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_may_be_separated_as_spreadsheets_do_where_a_comma_is_part_of_numbers(
    tmp_path: Path, delimiter: str
) -> None:
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter).writerows([("path", "label"), *rows(tmp_path)])
    check(open_source(str(tmp_path / "list.csv"), NOWHERE), "list")
    (tmp_path / "list.csv").write_text(f"path{delimiter}label\nimages/0.png,ant\n")
    with pytest.raises(ValueError, match=r"line 2 does not have the 2 fields .* quote what holds ['\"]"):
        open_source(str(tmp_path / "list.csv"), NOWHERE)


@pytest.mark.parametrize("row", ["images/1.png", "images/1.png,bee, honey"])
def test_a_line_of_a_csv_with_a_field_too_few_or_too_many_is_told(tmp_path: Path, row: str) -> None:
    (tmp_path / "list.csv").write_text(f"path,label\nimages/0.png,ant\n{row}\n")
    with pytest.raises(ValueError, match=r"list\.csv: line 3 does not have the 2 fields of the header"):
        open_source(str(tmp_path / "list.csv"), NOWHERE)


def test_a_row_without_label_is_no_class_of_its_own(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    datasets = pytest.importorskip("datasets")
    labels = ["ant", None]
    parquet.write_table(
        pyarrow.table({"path": ["0.png", "1.png"], "label": labels}), tmp_path / "list.parquet"
    )
    images = [{"bytes": picture(number), "path": None} for number in range(2)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])}
    )
    datasets.Dataset.from_dict({"image": images, "label": [0, None]}, features).save_to_disk(tmp_path / "set")
    for source in (str(tmp_path / "list.parquet"), f"hf:{tmp_path / 'set'}"):
        with pytest.raises(ValueError, match=r"row 1 of .*, counted from 0, has no label"):
            open_source(source, NOWHERE)


@pytest.mark.parametrize("inside", [False, True])
def test_a_parquet_names_paths_or_holds_the_images(tmp_path: Path, inside: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    paths, labels = zip(*rows(tmp_path), strict=True)
    images = [{"bytes": picture(n), "path": None} for n in range(6)] if inside else list(paths)
    parquet.write_table(pyarrow.table({"image": images, "label": labels}), tmp_path / "list.parquet")
    check(open_source(str(tmp_path / "list.parquet"), NOWHERE), "list")


@pytest.mark.parametrize("split", [None, "train"])
def test_a_hugging_face_set(tmp_path: Path, split: str | None) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["ant", "bee", "cow"])}
    )
    images = [{"bytes": picture(number), "path": None} for number in range(6)]
    made = datasets.Dataset.from_dict({"picture": images, "kind": [0, 1, 2] * 2}, features=features)
    kept = made if split is None else datasets.DatasetDict({split: made})
    kept.save_to_disk(tmp_path / "animals")
    check(open_source(f"hf:{tmp_path / 'animals'}", NOWHERE), "animals")


def test_a_folder_is_read_by_what_is_in_its_files(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "0.jpg").write_bytes(picture(1, "GIF"))
    (tmp_path / "ant" / "1.jpg").write_bytes(b"<html>404</html>")
    (tmp_path / "ant" / "2.jpg").touch()
    source = open_source(str(tmp_path), NOWHERE)
    assert media_type(source.image(0)) == "image/png"
    with pytest.raises(Unfit, match=r"ant/1\.jpg is no image that can be read$"):
        source.image(1)
    with pytest.raises(Unfit, match=r"ant/2\.jpg is empty$"):
        source.image(2)


def test_a_hugging_face_folder_in_a_format_that_servers_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for label in ("ant", "bee"):
        (tmp_path / "animals" / label).mkdir(parents=True)
        (tmp_path / "animals" / label / "0.bmp").write_bytes(picture(1, "BMP"))
    source = open_source(f"hf:{tmp_path / 'animals'}", NOWHERE)
    assert sorted(source.labels) == ["ant", "bee"]
    assert media_type(source.load(0)) == "image/png"


def test_a_torchvision_set(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        images = struct.pack(">IIII", 2051, 4, 28, 28) + pixels.tobytes()
        labels = struct.pack(">II", 2049, 4) + bytes([0, 3, 3, 9])
        for name, data in (("images-idx3", images), ("labels-idx1", labels)):
            (raw / f"{part}-{name}-ubyte").write_bytes(data)
            (raw / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(data))
    source = open_source("torchvision:MNIST:test", tmp_path)
    assert list(source.labels) == ["0 - zero", "3 - three", "3 - three", "9 - nine"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(source.load(3)))), pixels[3])
    assert list(source.only(1).rows) == [0, 1, 3]
    assert source.called(3) == "row-0000003"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("torchvision:NoSuchSet", "no image set 'NoSuchSet'"),
        ("torchvision:os", "no image set 'os'"),
        ("nowhere/at/all", "no such folder"),
        ("list.csv", "one of path, file"),
        ("empty.csv", "has no rows"),
    ],
)
def test_what_is_no_source_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.csv").write_text("a,b\n1,2\n")
    Path("empty.csv").write_text("path,label\n")
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        open_source(text, NOWHERE)
    assert not sent_whole(text)


def test_submit_cuts_and_follows_every_part(server: Up, tmp_path: Path) -> None:
    with (tmp_path / "zoo.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows(tmp_path)])
    arguments = ("submit", tmp_path / "zoo.csv", "--task-images", "4", "--key", "zoo", "--json")
    first = told(hippotune(*arguments, "--wait", "--url", server.address))
    assert [(task["name"], task["images"], task["state"]) for task in first] == [
        ("zoo", 4, "consolidated"),
        ("zoo 2", 2, "consolidated"),
    ]
    again = told(hippotune(*arguments, "--url", server.address))
    assert [task["id"] for task in again] == [task["id"] for task in first]


def told(result: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert result.returncode == 0, result.stderr
    found: list[dict[str, object]] = json.loads(result.stdout)
    return found


def test_rows_without_an_image_are_told(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": None, "path": None}, {"bytes": b"", "path": None}, None]
    struct_ = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"image": pyarrow.array(images, struct_), "label": ["ant"] * 3})
    parquet.write_table(table, tmp_path / "list.parquet")
    source = open_source(str(tmp_path / "list.parquet"), NOWHERE)
    for row, told in enumerate(
        ["row 0 of list has no image", "row 1 of list is empty", "row 2 of list has no"]
    ):
        with pytest.raises(Unfit, match=told):
            source.image(row)


def test_a_table_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes("path,label\n0.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"list\.csv is no text in UTF-8"):
        open_source(str(tmp_path / "list.csv"), NOWHERE)


def test_a_row_whose_label_is_blank_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\n0.png,ant\n1.png, \n")
    with pytest.raises(ValueError, match=r"row 1 of .*list\.csv, counted from 0, has no label"):
        open_source(str(tmp_path / "list.csv"), NOWHERE)


def test_a_row_that_names_a_missing_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\nnope.png,ant\n")
    source = open_source(str(tmp_path / "list.csv"), NOWHERE)
    with pytest.raises(
        FileNotFoundError, match=r"row 0 of list\.csv, .* names .*nope\.png, which is not there"
    ):
        source.image(0)
