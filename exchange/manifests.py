"""What a version is and knows: its manifest, the record that trainer and service agree on.

JSON is the form on disk, read as strictly as `exchange.records` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, Protocol, Self

import orjson

from exchange.reading import reader, require_finite

Kind = Literal["fast", "consolidated"]

SERVING, LEARNER = "serving", "learner"
"""Roles of a version's files: what a server answers with, and what a trainer learns on from."""


class Identity(Protocol):
    """What a backbone says of itself. Nothing here knows the networks themselves."""

    @property
    def name(self) -> str: ...
    @property
    def px(self) -> int: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class BackboneRecord:
    """Which frozen network a version was learned on; a version fits no other."""

    name: str
    px: int
    sha256: str

    @classmethod
    def of(cls, identity: Identity) -> Self:
        return cls(identity.name, identity.px, identity.sha256)

    def __str__(self) -> str:
        return f"{self.name} at {self.px} px (weights {self.sha256[:12]})"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a version."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What a version is to be and know, before it has a number and files.

    Raises `ValueError` for a metric that is not finite.
    """

    kind: Kind
    parent: int | None
    """The version that it replaces; None for the first."""
    backbone: BackboneRecord
    labels: tuple[str, ...]
    """In the order of the head's outputs."""
    consolidated: tuple[str, ...]
    """Ids of the tasks that are fully learned."""
    fast: tuple[str, ...]
    """Ids of the tasks that only the fast head knows."""
    slots: int
    metrics: Mapping[str, float]
    base: int | None = None
    """Of a fast version, the consolidated one that learning goes on from; 0 for none. None where it was not noted."""
    images: tuple[int, ...] | None = None
    """Of each label, how many images are in the sums of its class. None where it was not noted."""
    taught: Mapping[str, tuple[int, ...]] | None = None
    """Of each task that taught a label, by id: the places of those labels in `labels`. None where it was not noted."""

    def __post_init__(self) -> None:
        require_finite(self.metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Draft):
    """What one immutable version is and knows. Written after its files, so a manifest means whole files."""

    version: int
    created_at: float
    files: Mapping[str, FileRecord]
    """By role."""

    @classmethod
    def of(cls, draft: Draft, version: int, created_at: float, files: Mapping[str, FileRecord]) -> Self:
        told = {field.name: getattr(draft, field.name) for field in fields(Draft)}
        return cls(**told, version=version, created_at=created_at, files=files)

    @property
    def applied(self) -> tuple[str, ...]:
        """Ids of all tasks in this version. If one is delivered again, it only has to be acknowledged."""
        return self.consolidated + self.fast

    @property
    def below(self) -> int | None:
        """Where to look next for what learning goes on from: the base of a fast version, or else the parent."""
        return self.parent if self.base is None else self.base or None

    def to_json(self) -> bytes:
        return orjson.dumps(self, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @staticmethod
    def from_json(data: bytes | str) -> "Manifest":
        return reader(Manifest).validate_json(data)


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that answers `share` of the requests, 0 to 1, beside the one that is served."""

    version: int
    share: float
