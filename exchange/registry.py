"""The version registry: immutable versions on disk, and in Redis one pointer to the version that is served.

A version becomes visible in one step, the move of the pointer. Its files and its manifest are durable before.
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis

from exchange import registry_lua as lua
from exchange.connection import reaching_redis
from exchange.errors import (
    LeaseLost,
    NotCanary,
    PointerMoved,
    VersionCorrupt,
    VersionError,
    VersionNotFound,
    VersionUnreadable,
)
from exchange.manifests import Canary, Draft, Manifest
from exchange.pruning import is_complete, passed_over
from exchange.redis_keys import DEFAULT_PREFIX, Keys
from exchange.shelf import Shelf, Stamp, Writer


class Registry:
    """Versions and the pointer. Methods that need Redis raise `ExchangeUnavailable`.

    What one version is, its files and its manifest, `shelf` tells without Redis.
    """

    def __init__(self, redis: Redis, root: Path, prefix: str = DEFAULT_PREFIX) -> None:
        self.redis, self.shelf, self.keys = redis, Shelf(root), Keys(prefix)
        self._listed: dict[int, tuple[Stamp | None, Manifest]] = {}
        """What `manifests` last found."""

    def publish(self, draft: Draft, files: Mapping[str, Writer], lease_token: int | None = None) -> Manifest:
        """Makes a new version and points to it, if the pointer is at its parent (None: nowhere yet).

        Each writer in `files`, by role, gets a temporary path. Raises `PointerMoved` when somebody else was faster,
        `LeaseLost` when `lease_token` is not the newest one, `StoreUnavailable`, `VersionUnreadable`; then nothing is
        left behind.
        After `ExchangeUnavailable` the pointer may or may not have moved: ask `current`.
        """
        version = self._next_number()
        with self.shelf.staging(version) as staging:
            try:
                written = self.shelf.write(version, files, staging)
                manifest = Manifest.of(draft, version, time.time(), written)
                self.shelf.write_manifest(manifest, staging)
            except BaseException:
                self.shelf.remove(version)
                raise
            try:
                self._move(version, draft.parent, lease_token)
            except (PointerMoved, LeaseLost):
                self.shelf.remove(version)
                raise
        return manifest

    def current(self) -> int | None:
        """The version that is served; None before the first. Raises `VersionCorrupt` where Redis holds no number."""
        with reaching_redis():
            found: Any = self.redis.get(self.keys.pointer)
        try:
            return None if found is None else int(found)
        except ValueError:
            raise VersionCorrupt(f"Redis points to {found!r}, which is no version: activate one") from None

    def manifest(self, version: int) -> Manifest:
        """What one version is, for who may ask before there is any: a store that is new is not one that is away.

        Raises `VersionError`.
        """
        try:
            return self.shelf.manifest(version)
        except VersionUnreadable:
            if self.current() is None and not self.shelf.numbers():
                raise VersionNotFound(f"no version {version}") from None
            raise

    def activate(self, version: int) -> Manifest:
        """Points to a published version, older or newer; one that was a canary is none any more.

        Raises `VersionError`.
        """
        manifest = self.manifest(version)
        if self._run(lua.ACTIVATE, version) == [b"unknown"]:
            raise VersionNotFound(f"version {version} was never published")
        return manifest

    def set_canary(self, version: int, share: float) -> None:
        """Makes a published version the canary for `share` of the requests, 0 to 1; 0 ends that. There is one at most.

        Raises `VersionNotFound`, `NotCanary` for the version served and where another one is to end, `ValueError` for
        another share, and `VersionError` unless that is 0, which must be possible whatever became of its files.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}: must lie in 0..1")
        if share:
            self.manifest(version)
        status, *rest = self._run(lua.SET_CANARY, version, str(share))
        if status == b"unknown":
            raise VersionNotFound(f"version {version} was never published")
        if status == b"served":
            raise NotCanary(f"version {version} is the one served; a canary is another one beside it")
        if status == b"other":
            raise NotCanary(f"version {version} is not the canary; version {int(rest[0])} is")

    def canary(self) -> Canary | None:
        """The canary, if there is one."""
        with reaching_redis():
            found: Any = self.redis.hgetall(self.keys.canary)
        return Canary(int(found[b"version"]), float(found[b"share"])) if found else None

    def recover(self) -> int | None:
        """For a Redis that is new or lost its data: points to the newest whole version on disk, if any.

        Returns the pointer. Changes nothing where there is one; else notes when, see `exchange.upkeep.sweep_blobs`.
        Only that version is hashed: nobody is served before. Raises `VersionUnreadable`.
        """
        if (current := self.current()) is not None:
            return current
        newest = self.newest_on_disk()
        if newest is not None:
            older = [version for version in sorted(self.shelf.numbers()) if version < newest]
            self._run(lua.RECOVER, newest, *(version for version in older if self._sound(version)))
        return self.current()

    def readmit(self) -> list[int]:
        """For a Redis older than the store: publishes again what lies whole on disk above all that it knows.

        Returns these versions, oldest first. The pointer stays; but they can be activated, and are pruned like others,
        not as leftovers of crashes. A version that a crash kept from being published comes in the same way: it is
        another one to go back to. Nobody may be publishing meanwhile. Raises `VersionUnreadable`.
        """
        known = max(self._published(), default=0)
        unknown = [v for v in sorted(self.shelf.numbers()) if v > known and self._whole(v)]
        if unknown:
            with reaching_redis():
                self.redis.zadd(self.keys.published, {str(version): version for version in unknown})
        return unknown

    def newest_on_disk(self) -> int | None:
        """The newest whole version; needs no Redis. Raises `VersionUnreadable`."""
        return next((v for v in sorted(self.shelf.numbers(), reverse=True) if self._whole(v)), None)

    def manifests(self) -> list[Manifest]:
        """All published versions, newest first; one whose manifest is damaged or cannot be read is left out.

        What was read before is read again only where the file is another one: who asks again and again pays little.
        Raises `VersionUnreadable` where the folder cannot be listed or holds none of them: that is away, not empty.
        """
        published = self._published()
        if published and not self.shelf.numbers():
            raise VersionUnreadable(
                "versions cannot be listed: the store holds none of those that were published"
            )
        self._listed = listed = {v: found for v in published if (found := self._stamped(v))}
        return [manifest for _, manifest in listed.values()]

    def known_tasks(self) -> set[str]:
        """Ids of all tasks that a version on disk knows, published or not: Redis may have lost which are.

        Raises `VersionUnreadable`.
        """
        versions = self.shelf.numbers().union(self._published())  # these may be away
        manifests = [manifest for version in versions if (manifest := self._sound(version))]
        return {task for manifest in manifests for task in manifest.applied}

    def prune(self, keep: int) -> list[int]:
        """Removes all but the newest `keep` versions and leftovers of crashes; returns the versions removed.

        Those that nobody would go back to go first: see `exchange.pruning`. The version that is served and the canary
        stay, whatever their age. With each version that stays, the consolidated one that it descends from stays too. If
        the disk does not tell which that is for the version served or for the canary, nothing is removed.
        Raises `StoreUnavailable` and `VersionUnreadable`.
        """
        published = self._published()
        if not published:
            return []
        current, found = self.current(), self.canary()
        canary = found.version if found else None
        gone_first = passed_over([manifest for version in published if (manifest := self._sound(version))])
        wanted = {*sorted(published, key=gone_first.__contains__)[:keep], current, canary}
        lineages = {version: self._lineage(version) for version in wanted if version is not None}
        if any(version and not is_complete(lineages[version]) for version in (current, canary)):
            return []
        stays = wanted | {m.version for lineage in lineages.values() for m in lineage}
        retired = self._retire(current, canary, (version for version in published if version not in stays))
        leftovers = {version for version in self.shelf.numbers() - set(published) if version < published[0]}
        for version in leftovers.union(retired):
            self.shelf.remove(version)
        return retired

    def _retire(self, current: int | None, canary: int | None, versions: Iterable[int]) -> list[int]:
        keys = [self.keys.pointer, self.keys.published, self.keys.canary]
        with reaching_redis():
            retired: Any = self.redis.eval(lua.RETIRE, 3, *keys, _text(current), _text(canary), *versions)
        return [int(version) for version in retired]

    def _lineage(self, version: int) -> list[Manifest]:
        """A version and the consolidated one that it descends from, as far as they are there and sound.

        Where a version does not name that one, all between them too: each names its parent alone.

        Raises `VersionUnreadable`.
        """
        lineage = []
        following: int | None = version
        while following is not None and (manifest := self._sound(following)):
            lineage.append(manifest)
            following = manifest.below if manifest.kind == "fast" else None
        return lineage

    def _stamped(self, version: int) -> tuple[Stamp | None, Manifest] | None:
        stamp, known = self.shelf.stamp(version), self._listed.get(version)
        if known is not None and stamp is not None and stamp == known[0]:
            return known
        with suppress(VersionError):
            return stamp, self.shelf.manifest(version)
        return None

    def _sound(self, version: int) -> Manifest | None:
        """None for one that is gone or damaged. Raises `VersionUnreadable`."""
        try:
            return self.shelf.manifest(version)
        except (VersionNotFound, VersionCorrupt):
            return None

    def _whole(self, version: int) -> bool:
        """Whether a version on disk is complete and every file is as it was published. Raises `VersionUnreadable`."""
        try:
            for role in self.shelf.manifest(version).files:
                self.shelf.verify(version, role)
        except (VersionNotFound, VersionCorrupt):
            return False
        return True

    def _published(self) -> list[int]:
        """Newest first."""
        with reaching_redis():
            found: Any = self.redis.zrevrange(self.keys.published, 0, -1)
        return [int(version) for version in found]

    def _next_number(self) -> int:
        """Never used before, neither in this Redis nor on this disk."""
        highest = max(self.shelf.numbers(), default=0)
        with reaching_redis():
            return int(self.redis.eval(lua.NUMBER, 1, self.keys.sequence, highest))

    def _move(self, version: int, expected: int | None, lease_token: int | None) -> None:
        status, *rest = self._run(lua.PUBLISH, version, _text(expected), _text(lease_token))
        if status == b"lost":
            raise LeaseLost("another trainer has taken over; its versions count")
        if status == b"moved":
            found = rest[0].decode() or "nothing"
            raise PointerMoved(f"version {found} is served, not {_text(expected) or 'nothing'} as expected")

    def _run(self, script: str, *arguments: str | int) -> list[Any]:
        names = self.keys
        keys = [names.pointer, names.published, names.lease_token, names.canary, names.lost]
        keys += [names.done(secrets.token_hex(8))]
        with reaching_redis():
            return self.redis.eval(lua.SHARED + script, len(keys), *keys, *arguments)


def _text(number: object) -> str:
    return "" if number is None else str(number)
