"""Where blobs lie."""

from pathlib import Path

from exchange.blobs import BlobStore


def path_of(blobs: BlobStore, name: str) -> Path:
    return blobs.root / name[:2] / name[2:]
