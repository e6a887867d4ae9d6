"""Whether a request is one that came before with the same idempotency key."""

import hashlib
from collections.abc import Sequence

from exchange.blobs import name_of
from exchange.errors import IdempotencyMismatch
from exchange.records import LabelChange, Made, Sample, change_to_json, samples_to_json


def request_digest(name: str, samples: Sequence[Sample]) -> str:
    """Tells requests apart. Nothing has to be stored for that."""
    listing = name_of(samples_to_json(tuple(samples)))
    return hashlib.sha256(f"{name}\n{listing}".encode()).hexdigest()


def order_digest(change: LabelChange) -> str:
    """Tells orders apart, and from tasks with images."""
    return hashlib.sha256(b"order\n" + change_to_json(change)).hexdigest()


def require_same(made: Made, digest: str) -> None:
    """Raises `IdempotencyMismatch` unless a task was made by a request or order of this digest."""
    if made.digest != digest:
        raise mismatch()


def mismatch() -> IdempotencyMismatch:
    """What a request is told that has the key of another."""
    return IdempotencyMismatch(
        "the idempotency key was used before, for other images, labels, names or orders"
    )
