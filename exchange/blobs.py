"""Original encoded images, each stored once under the SHA-256 of its bytes."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path

from exchange.errors import BlobCorrupt, BlobMissing, BlobUnreadable
from exchange.files import make_durable, make_folder, storing

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PARTIAL = ".partial-"
_DOOMED = re.compile(re.escape(_PARTIAL) + r"([0-9a-f]{62})")
_SYNCS = 8
_BATCH = 64
"""Blobs in memory at once when `put_many` reads from a generator."""


def name_of(data: bytes) -> str:
    """The name that a blob of these bytes is stored under."""
    return hashlib.sha256(data).hexdigest()


class BlobStore:
    """A directory of immutable blobs, `ab/cdef...`. Safe for many processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, data: bytes) -> str:
        """Stores `data` durably and returns its SHA-256 (hex). Storing it again changes nothing.

        Raises `StoreUnavailable`.
        """
        return self.put_many([data])[0]

    def put_many(self, blobs: Iterable[bytes]) -> list[str]:
        """Like `put` for each, in their order, but far faster. When this returns, all are durable.

        Raises `StoreUnavailable`.
        """
        waiting = iter(blobs)
        names: list[str] = []
        # A disk commits many syncs at once, so that small files wait for it together and not one after the other.
        with storing(self.root), ThreadPoolExecutor(_SYNCS) as pool:
            make_folder(self.root)
            while batch := list(islice(waiting, _BATCH)):
                names += pool.map(self._write, batch)
            folders = {self._path(name).parent for name in names}
            list(pool.map(make_durable, [*folders, self.root]))
        return names

    def get(self, name: str) -> bytes:
        """The blob of this name, checked against it. Raises `BlobMissing`, `BlobCorrupt`, `BlobUnreadable`."""
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            if not self.root.is_dir():  # a volume that is not mounted has lost nothing
                raise BlobUnreadable(
                    f"blob {name} cannot be read: there is no folder {self.root.name}"
                ) from None
            raise BlobMissing(f"blob {name} is not in the store") from None
        except OSError as error:
            raise BlobUnreadable(f"blob {name} cannot be read: {error.strerror}") from error
        if name_of(data) != name:
            raise BlobCorrupt(f"blob {name} holds other bytes than its name says")
        return data

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def require(self, names: Iterable[str]) -> None:
        """Raises `BlobMissing` for the first of these blobs that is not stored."""
        for name in names:
            if not self.exists(name):
                raise BlobMissing(f"blob {name} is not in the store")

    def sweep(self, keep: Set[str], stored_since: float, stored_before: float) -> int:
        """Removes every blob that is not in `keep`, and every leftover of a crash; returns how many.

        Only what was last stored between these times, Unix seconds: the task of anything newer may not be queued yet.
        """
        removed = 0
        with storing(self.root):
            for found in self.root.glob("??/*"):
                with suppress(FileNotFoundError):  # another sweep was faster
                    path = _brought_back(found)
                    if path.parent.name + path.name in keep:
                        continue
                    if stored_since <= path.stat().st_mtime < stored_before:
                        removed += _discard(path, stored_before)
        return removed

    def _path(self, name: str) -> Path:
        if not _SHA256.fullmatch(name):
            raise BlobMissing(f"{name!r} is no blob name: 64 hexadecimal digits expected")
        return self.root / name[:2] / name[2:]

    def _write(self, data: bytes) -> str:
        name = name_of(data)
        path = self._path(name)
        if _renew(path, data):
            return name
        path.parent.mkdir(exist_ok=True)
        descriptor, partial = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        return name


def _discard(path: Path, stored_before: float) -> bool:
    """Removes a file unless somebody has stored it again since it was looked at.

    It is renamed first: whoever stores it afterwards writes a new file, and whoever stored it before has renewed the
    time of this one, which shows here.
    """
    doomed = path.with_name(_PARTIAL + path.name)
    path.rename(doomed)
    if doomed.stat().st_mtime < stored_before:
        doomed.unlink()
        return True
    doomed.rename(path)
    return False


def _brought_back(path: Path) -> Path:
    """A file under its own name again, if a sweep was killed after it had renamed it: it may have been needed."""
    match = _DOOMED.fullmatch(path.name)
    if match is None:
        return path
    own = path.with_name(match[1])
    with suppress(FileExistsError):  # stored again meanwhile
        own.hardlink_to(path)
    path.unlink()
    return own


def _renew(path: Path, data: bytes) -> bool:
    """Tells a sweep that a blob is needed again. False where it is missing or damaged and must be written."""
    try:
        if path.read_bytes() != data:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
