"""Labelled images wherever they are: folders, manifests, Hugging Face and torchvision sets.

A source knows all its labels before it reads any image, so that a large one is cut between classes where it can be.
"""

from __future__ import annotations

import csv
import inspect
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from hippotune.encoding import accepted, judged, png
from hippotune.image_files import SUFFIXES, UNKNOWN, labelled_files, media_type
from hippotune.packing import Source

PATH_COLUMNS = ("path", "file", "file_name", "filename", "image")
LABEL_COLUMNS = ("label", "class", "class_name", "target", "fine_label")
SEPARATORS = (",", ";", "\t")
"""Of the fields of a .csv; the first that its header has."""


def sent_whole(text: str) -> bool:
    """Whether this is a file that is left to the server: any but a table, as zips and tars are."""
    path = Path(text)
    return path.is_file() and path.suffix.lower() not in (".csv", ".parquet")


def refuse_file(text: str) -> None:
    """Raise ValueError, which says what it is, for a file that is no manifest. Raises OSError."""
    if not sent_whole(text):
        return
    path = Path(text)
    with path.open("rb") as file:
        image = media_type(file.read(12)) != UNKNOWN
    if image or path.suffix.lower() in SUFFIXES:
        raise ValueError(f"{path} is one image; `hippotune classify` asks about it")
    if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        raise ValueError(f"{path} is an archive; unpack it")
    raise ValueError(f"{path} is no folder, .csv or .parquet")


def open_source(text: str, data: Path) -> Source:
    """What `hippotune submit` is given: a folder, a .csv or .parquet, `hf:NAME[:SPLIT]` or `torchvision:NAME[:SPLIT]`.

    data: where torchvision keeps its sets.  Raises ValueError and OSError for what cannot be read.
    """
    kind, _, spec = text.partition(":")
    if kind == "hf" and spec:
        return huggingface(*_split(spec))
    if kind == "torchvision" and spec:
        return torchvision(*_split(spec), data)
    path = Path(text)
    if not path.exists():
        raise FileNotFoundError(
            f"no such folder, archive or manifest: {path}; sets are hf:NAME and torchvision:NAME"
        )
    if path.is_dir():
        files, labels = zip(*labelled_files(path), strict=True)
        return Source(path.resolve().name, labels, lambda row: accepted(files[row]), lambda row: files[row])
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ValueError(f"{path} is no folder, .csv or .parquet; archives are handed in whole")
    return manifest(path)


def _split(spec: str) -> tuple[str, str]:
    name, _, split = spec.partition(":")
    return name, split or "train"


def manifest(path: Path) -> Source:
    """A table of image paths, relative to its folder, and labels: CSV with a header, or parquet.

    A parquet column may also hold the images themselves, as bytes or as Hugging Face writes them.
    """
    rows = list(_csv(path) if path.suffix.lower() == ".csv" else _parquet(path))
    if not rows:
        raise ValueError(f"{path} has no rows")
    image, label = _column(path, rows[0], PATH_COLUMNS), _column(path, rows[0], LABEL_COLUMNS)

    def held(row: int) -> bytes | Path | None:
        found = _held(rows[row][image])
        return found if found is None or isinstance(found, bytes) else path.parent / str(found)

    def file(row: int) -> Path | None:
        found = held(row)
        return found if isinstance(found, Path) else None

    def load(row: int) -> bytes:
        try:
            return accepted(held(row))
        except FileNotFoundError:
            told = f"row {row} of {path.name}, counted from 0, names {file(row)}, which is not there"
            raise FileNotFoundError(told) from None

    return Source(path.stem, _texts([row[label] for row in rows], str(path)), load, file)


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = _readable(file, path)
        header = next(lines, "")
        # Where a comma is part of numbers, spreadsheets separate by semicolons.
        delimiter = next((mark for mark in SEPARATORS if mark in header), SEPARATORS[0])
        reader = csv.DictReader(chain((header,), lines), delimiter=delimiter)
        for row in reader:
            # DictReader keeps a field too many under None, and gives None for one too few.
            if None in row or None in row.values():
                told = (
                    f"the {len(reader.fieldnames or ())} fields of the header; quote what holds {delimiter!r}"
                )
                raise ValueError(f"{path}: line {reader.line_num} does not have {told}")
            yield row


def _readable(file: TextIO, path: Path) -> Iterator[str]:
    """The lines of a file. Raises ValueError for bytes that are no UTF-8."""
    try:
        yield from file
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8; save it in that encoding") from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError("parquet needs pyarrow: pip install -e '.[data]' in the checkout") from None
    yield from parquet.read_table(path).to_pylist()


def _column(path: Path, row: Mapping[str, Any], names: Sequence[str]) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise ValueError(f"{path} has the columns {', '.join(row)}; one of {', '.join(names)} is needed")
    return found


def _texts(labels: Sequence[Any], name: str, text: Callable[[Any], str] = str) -> list[str]:
    """Labels as text. Raises ValueError for one that is missing: as text it would be a class of its own."""
    missing = next((row for row, label in enumerate(labels) if label is None or not str(label).strip()), None)
    if missing is not None:
        raise ValueError(f"row {missing} of {name}, counted from 0, has no label")
    return [text(label) for label in labels]


def huggingface(name: str, split: str) -> Source:
    """An image set of the `datasets` library: by its name on the hub, or the folder it was saved to."""
    try:
        import datasets
    except ImportError:
        raise ValueError("hf: needs datasets: pip install -e '.[data]' in the checkout") from None
    saved = Path(name)
    if (saved / "dataset_info.json").exists() or (saved / "dataset_dict.json").exists():
        found = datasets.load_from_disk(name)
        rows = found[split] if isinstance(found, datasets.DatasetDict) else found
    else:
        rows = datasets.load_dataset(name, split=split)
    image = next((c for c, kind in rows.features.items() if isinstance(kind, datasets.Image)), None)
    label = next((c for c, kind in rows.features.items() if isinstance(kind, datasets.ClassLabel)), None)
    label = label or next((column for column in LABEL_COLUMNS if column in rows.features), None)
    if image is None or label is None:
        raise ValueError(
            f"{name} has the columns {', '.join(rows.features)}; an image and a label are needed"
        )
    kind = rows.features[label]
    names = kind.int2str if isinstance(kind, datasets.ClassLabel) else str
    encoded = rows.cast_column(image, datasets.Image(decode=False))

    def load(row: int) -> bytes:
        held = _held(encoded[row][image])
        return accepted(Path(held) if isinstance(held, str) else held)

    return Source(saved.name, _texts(list(rows[label]), name, names), load)


def torchvision(name: str, split: str, data: Path) -> Source:
    """A set of `torchvision.datasets`, downloaded to `data` where it is not there yet."""
    from torchvision import datasets

    kind: Any = getattr(datasets, name, None)
    known = inspect.isclass(kind) and issubclass(kind, datasets.VisionDataset)
    if not known:
        raise ValueError(f"torchvision has no image set {name!r}")
    takes = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {"split": split} if "split" in takes else {}
    if "train" in takes:
        arguments["train"] = split == "train"
    try:
        found = kind(data, **arguments)
    except (RuntimeError, FileNotFoundError):  # what these classes raise for "not there"
        if "download" not in takes:
            raise ValueError(f"{name} is not in {data}, and torchvision cannot fetch it") from None
        try:
            found = kind(data, **arguments, download=True)
        except OSError as error:
            raise OSError(f"{name} is not in {data}, and torchvision cannot fetch it: {error}") from error
    targets = next(
        (getattr(found, each) for each in ("targets", "labels", "_labels") if hasattr(found, each)), None
    )
    if targets is None:
        targets = [found[row][1] for row in range(len(found))]
    classes = getattr(found, "classes", None)
    try:
        labels = [str(classes[int(target)] if classes else int(target)) for target in targets]
    except (TypeError, ValueError):
        raise ValueError(f"{name} is no set of classes: its targets are like {targets[0]!r:.60}") from None

    def load(row: int) -> bytes:
        with judged():
            return png(found[row][0])

    return Source(name, labels, load)


def _held(cell: Any) -> Any:
    """The bytes of an image or its path, plainly or as Hugging Face writes them; None where there is neither."""
    if isinstance(cell, Mapping):
        return cell["path"] if cell.get("bytes") is None else cell["bytes"]
    return cell
