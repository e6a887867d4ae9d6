"""Files that are whole or absent: written beside their place, made durable, then renamed into it."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exchange.errors import StoreUnavailable, told_of


def make_durable(path: Path) -> None:
    """Returns once the content of a file, or the names in a directory, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Creates a directory, and those above it, so that they survive a power cut; one that is there is left alone."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        make_durable(path.parent)


def sha256_of(path: Path) -> str:
    """Hex digest of a file of any size, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def storing(root: Path) -> Iterator[None]:
    """Turns what the file system refuses into `StoreUnavailable`, naming the folder and the reason.

    Not where it lies: clients are told the message, and that is nothing for them.
    """
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"cannot write to {root.name} in the store: {told_of(error)}") from error
