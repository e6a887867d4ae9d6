"""API keys: who may do what.

A server holds SHA-256 hashes, never keys. A key is 32 random bytes, which no hash, however fast, lets anybody
guess; so neither salt nor stretching is needed. One line a key, in a file or in a setting:

    # role[,role]:name:sha256 of the key in hexadecimal
    submit:ci:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from time import monotonic

import structlog

log = structlog.get_logger(__name__)

PREFIX = "ht_"
NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)
LINE = re.compile(rf"(?P<roles>[a-z,]+):(?P<name>{NAME.pattern}):(?P<digest>[0-9a-f]{{64}})", re.ASCII)
RELOAD_S = 1.0


class Role(StrEnum):
    """What a key is good for; an admin may do everything."""

    CLASSIFY = "classify"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the server knows it. digest: SHA-256 of the key, 32 bytes."""

    name: str
    roles: frozenset[Role]
    digest: bytes

    def may(self, allowed: frozenset[Role]) -> bool:
        """True when one of its roles is among those allowed, or it is an admin's."""
        return Role.ADMIN in self.roles or not self.roles.isdisjoint(allowed)

    def line(self) -> str:
        """The key as a line of the file."""
        return f"{','.join(sorted(self.roles))}:{self.name}:{self.digest.hex()}"


def create(name: str, roles: Iterable[Role]) -> tuple[str, ApiKey]:
    """A new key, and what the server keeps of it. Raises ValueError for a name that does not fit in a line."""
    if not NAME.fullmatch(name):
        raise ValueError(f"name is {name!r}; it must have 1 to 64 letters, digits or _ . @ -")
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, ApiKey(name, frozenset(roles), digest(secret.encode()))


def digest(secret: bytes) -> bytes:
    return sha256(secret).digest()


def parse(text: str, source: str) -> tuple[ApiKey, ...]:
    """Keys from lines. Raises ValueError naming `source` and the line, but nothing of what stands there."""
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        found = LINE.fullmatch(entry)
        roles = found["roles"].split(",") if found else []
        if found is None or not set(roles) <= set(Role):
            names = ", ".join(Role)
            raise ValueError(f"line {number} of {source} must be role:name:sha256, the role one of {names}")
        if found["name"] in keys:
            raise ValueError(f"line {number} of {source} repeats the name {found['name']}")
        key = ApiKey(found["name"], frozenset(map(Role, roles)), bytes.fromhex(found["digest"]))
        keys[key.name] = key
    return tuple(keys.values())


class Keyring:
    """The keys of a server. A file is read again when it changes, so that revoking a key needs no restart."""

    def __init__(self, file: Path | None, inline: str) -> None:
        """inline: lines separated by any white space. Raises ValueError and OSError."""
        self._file = file
        self._inline = parse("\n".join(inline.split()), "api_keys")
        self._stamp = self._checked = 0.0
        self._keys = self._inline + (self._read() if file is not None else ())

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: bytes) -> ApiKey | None:
        """The key that was presented. Compares with all of them, each in constant time."""
        self._refresh()
        presented, found = digest(secret), None
        for key in self._keys:
            if hmac.compare_digest(presented, key.digest):
                found = key
        return found

    def _read(self) -> tuple[ApiKey, ...]:
        assert self._file is not None  # noqa: S101 - both callers looked
        with self._file.open(encoding="utf-8") as file:
            self._stamp, self._checked = os.fstat(file.fileno()).st_mtime_ns, monotonic()
            return parse(file.read(), str(self._file))

    def _refresh(self) -> None:
        if self._file is None or monotonic() - self._checked < RELOAD_S:
            return
        self._checked = monotonic()
        try:
            if self._file.stat().st_mtime_ns != self._stamp:
                self._keys = self._inline + self._read()
                log.info("API keys read again", keys=len(self._keys))
        except (OSError, ValueError) as error:
            log.error("API keys not read again, the old ones hold", reason=str(error))
