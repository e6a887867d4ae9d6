"""Whether a request is one that came before with the same idempotency key."""

import hashlib
from collections.abc import Sequence

from exchange.blobs import name_of
from exchange.errors import IdempotencyMismatch
from exchange.records import LabelChange, Made, Sample, change_to_json, samples_to_json


def request_digest(name: str, listing: str) -> str:
    """Tells requests apart. listing: the name of the blob that lists the samples."""
    return hashlib.sha256(f"{name}\n{listing}".encode()).hexdigest()


def order_digest(change: LabelChange) -> str:
    """Tells orders apart, and from tasks with images."""
    return hashlib.sha256(b"order\n" + change_to_json(change)).hexdigest()


def require_same(made: Made, name: str, samples: Sequence[Sample]) -> None:
    """Raises `IdempotencyMismatch` unless a task was made of the same. Nothing has to be stored for that."""
    if request_digest(name, name_of(samples_to_json(tuple(samples)))) != made.digest:
        raise mismatch()


def require_same_order(made: Made, change: LabelChange) -> None:
    """Raises `IdempotencyMismatch` unless a task was made as the same order."""
    if order_digest(change) != made.digest:
        raise mismatch()


def mismatch() -> IdempotencyMismatch:
    """What a request is told that has the key of another."""
    return IdempotencyMismatch(
        "the idempotency key was used before, for other images, labels, names or orders"
    )
