"""Labelled images wherever they are: folders, manifests, Hugging Face and torchvision sets; cut into tasks of a size.

A source knows all its labels before it reads any image, so that a large one is cut between classes where it can be.
"""

from __future__ import annotations

import csv
import inspect
import io
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hippotune.samples import JUNK, first_of_each, labelled_files, media_type

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PATH_COLUMNS = ("path", "file", "file_name", "filename", "image")
LABEL_COLUMNS = ("label", "class", "class_name", "target", "fine_label")


@dataclass(frozen=True, slots=True)
class Source:
    """labels: one an image.  load: an image's encoded bytes (JPEG, PNG or WebP) by its number."""

    name: str
    labels: Sequence[str]
    load: Callable[[int], bytes]

    def only(self, per_class: int) -> Source:
        """The first `per_class` images of each label."""
        rows = first_of_each(self.labels, per_class)
        return Source(self.name, [self.labels[row] for row in rows], lambda at: self.load(rows[at]))


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """The most images and bytes of one task."""

    images: int
    size: int


USUAL = TaskLimits(20_000, 500 << 20)
"""Just below what a server takes by default."""


def is_archive(text: str) -> bool:
    """Whether this is a file that a server unpacks by itself: a zip or tar, of an ImageFolder or a WebDataset."""
    path = Path(text)
    return path.is_file() and path.suffix.lower() not in (".csv", ".parquet")


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
        files = labelled_files(path)
        return Source(path.resolve().name, [label for _, label in files], lambda row: _file(files[row][0]))
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

    def load(at: int) -> bytes:
        found = rows[at][image]
        if isinstance(found, Mapping):
            found = found.get("bytes") or found["path"]
        return (
            _accepted(found, f"a row of {path}")
            if isinstance(found, bytes)
            else _file(path.parent / str(found))
        )

    return Source(path.stem, _texts([row[label] for row in rows], str(path)), load)


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        for row in reader:
            # DictReader keeps a field too many under None, and gives None for one too few.
            if None in row or None in row.values():
                told = f"the {len(reader.fieldnames or ())} fields of the header; quote what holds a comma"
                raise ValueError(f"{path}: line {reader.line_num} does not have {told}")
            yield row


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
    missing = next((row for row, label in enumerate(labels, start=1) if label is None), None)
    if missing is not None:
        raise ValueError(f"row {missing} of {name} has no label")
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

    def load(at: int) -> bytes:
        row = encoded[at][image]
        return _accepted(row["bytes"] or Path(row["path"]).read_bytes(), f"a row of {name}")

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
    return Source(name, labels, lambda row: png(found[row][0]))


def _file(path: Path) -> bytes:
    return _accepted(path.read_bytes(), str(path))


def _accepted(image: bytes, name: str) -> bytes:
    """The same image, as PNG where servers would not take its format. Raises ValueError for what is none."""
    if media_type(image) != "application/octet-stream":
        return image
    from PIL import Image

    try:
        return png(Image.open(io.BytesIO(image)))
    except (OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError(f"{name} is no image that can be read") from None
    except ValueError as error:
        raise ValueError(f"{name} cannot be sent: {error}") from None


def png(picture: Picture) -> bytes:
    """A picture encoded as PNG, in a mode that servers take. Raises ValueError for fractions, which name no white."""
    import numpy as np
    from PIL import Image

    if picture.mode == "F":
        raise ValueError("its pixels are fractions, and nothing says which is white; save it in 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16 bits stay 16: Pillow would make all but the darkest white
        picture = Image.fromarray(np.asarray(picture).clip(0, 0xFFFF).astype(np.uint16))
    elif picture.mode not in ("L", "RGB", "RGBA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@contextmanager
def packed(source: Source, limits: TaskLimits) -> Iterator[Iterator[tuple[Path, int]]]:
    """A source as zip archives of `label/image`, each within the limits, and how many images each holds.

    Classes stay together where they fit. One archive is on disk at a time: use it before asking for the next.
    """
    with tempfile.TemporaryDirectory(prefix="hippotune-") as folder:
        yield _pack(source, limits, Path(folder) / "task.zip")


def _pack(source: Source, limits: TaskLimits, path: Path) -> Iterator[tuple[Path, int]]:
    sizes = Counter(source.labels)
    order = sorted(range(len(source.labels)), key=lambda row: source.labels[row])
    archive, count, size = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED), 0, 0
    try:
        for before, row in zip([None, *order], order, strict=False):
            label, image = source.labels[row], source.load(row)
            _check_label(label)
            starts = before is None or source.labels[before] != label
            needed = sizes[label] if starts and sizes[label] <= limits.images else 1
            if count and (count + needed > limits.images or size + len(image) > limits.size):
                archive.close()
                yield path, count
                archive, count, size = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED), 0, 0
            suffix = media_type(image).removeprefix("image/")
            archive.writestr(f"{label}/{row:07d}.{suffix}", image)
            count, size = count + 1, size + len(image) + 256
    finally:
        archive.close()
    if count:
        yield path, count


def _check_label(label: str) -> None:
    """Raise ValueError for what cannot be a folder's name in an archive."""
    junk = label.startswith(".") or label.lower() in JUNK
    if not label or "/" in label or "\\" in label or junk:
        raise ValueError(
            f"label {label!r} cannot name a folder; rename it, or submit from Python, image by image"
        )
