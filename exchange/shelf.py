"""Versions on disk: `<number>.<role>.safetensors` and, written last, `<number>.json`. No Redis here."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from exchange.errors import BackboneChanged, VersionCorrupt, VersionError, VersionNotFound, VersionUnreadable
from exchange.files import make_durable, make_folder, sha256_of, storing
from exchange.manifests import BackboneRecord, FileRecord, Manifest

Writer = Callable[[Path], None]
"""Writes one file of a version under the path it is given."""

Stamp = tuple[int, int, int]

_NUMBERED = re.compile(r"\.?([0-9]{6,})\.")
_ROLE = re.compile(r"[a-z_]+")


class Shelf:
    """A directory of immutable versions. What can be read there is whole: names come last."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, version: int, role: str) -> Path:
        """Raises `VersionError`."""
        self._promised(version, role)
        return self._file(version, role)

    def manifest(self, version: int) -> Manifest:
        """Raises `VersionError`."""
        try:
            manifest = Manifest.from_json(self._manifest(version).read_bytes())
        except FileNotFoundError:
            raise self._missing(version) from None
        except OSError as error:
            raise VersionUnreadable(
                f"the manifest of version {version} cannot be read: {error.strerror}"
            ) from error
        except ValueError as error:
            raise VersionCorrupt(f"the manifest of version {version} cannot be read: {error}") from error
        if manifest.version != version:
            raise VersionCorrupt(f"the manifest of version {version} is that of version {manifest.version}")
        return manifest

    def stamp(self, version: int) -> Stamp | None:
        """Another one as soon as its manifest is another file; None where the disk does not tell."""
        try:
            found = self._manifest(version).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _missing(self, version: int) -> VersionNotFound | VersionUnreadable:
        """What a manifest that is not there means: its version is not kept, or none is there. Raises the latter."""
        numbers = self.numbers()
        if not numbers:  # a volume that is not mounted has lost nothing
            return VersionUnreadable(
                f"the manifest of version {version} cannot be read: the store holds no version at all"
            )
        oldest = min(numbers)
        told = f": the oldest that is kept is {oldest}" if 0 < version < oldest else ""
        return VersionNotFound(f"no version {version}{told}")

    def check_backbone(self, backbone: BackboneRecord) -> None:
        """Raises `BackboneChanged` when versions lie here and none was learned on this one, `VersionUnreadable`."""
        learned: list[BackboneRecord] = []
        for version in sorted(self.numbers(), reverse=True):
            with suppress(VersionError):
                learned.append(self.manifest(version).backbone)
        if learned and backbone not in learned:
            raise BackboneChanged(f"what {self.root} holds was learned on {learned[0]}, not on {backbone}")

    def newest(self) -> Manifest | None:
        """The newest version with a sound manifest, be its files as they may. Raises `VersionUnreadable`."""
        for version in sorted(self.numbers(), reverse=True):
            with suppress(VersionNotFound, VersionCorrupt):
                return self.manifest(version)
        return None

    def verify(self, version: int, role: str) -> None:
        """Compares a file with its manifest. Raises `VersionError`."""
        promised, path = self._promised(version, role), self._file(version, role)
        try:
            found = FileRecord(path.name, sha256_of(path), path.stat().st_size)
        except OSError as error:
            raise VersionUnreadable(f"{path.name} cannot be read: {error.strerror}") from error
        if found != promised:
            raise VersionCorrupt(f"{path.name} is not the file that version {version} was published with")

    def _promised(self, version: int, role: str) -> FileRecord:
        """What the manifest says of a file. Raises `VersionError`."""
        files = self.manifest(version).files
        if role not in files:
            raise VersionNotFound(f"version {version} has no {role!r} file")
        return files[role]

    def numbers(self) -> set[int]:
        """Every number that any file bears, leftovers of a crash included. Raises `VersionUnreadable`."""
        try:
            names = [path.name for path in self.root.iterdir()]
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise VersionUnreadable(f"{self.root.name} cannot be listed: {error.strerror}") from error
        return {int(match[1]) for name in names if (match := _NUMBERED.match(name))}

    @contextmanager
    def staging(self, version: int) -> Iterator[Path]:
        """A directory for what has no name yet; its existence also reserves the number on this disk.

        Raises `StoreUnavailable`.
        """
        path = self.root / f".{version:06d}.partial"
        with storing(self.root):
            make_folder(self.root)
            path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def write(self, version: int, writers: Mapping[str, Writer], staging: Path) -> dict[str, FileRecord]:
        """Writes and names the files of a version, by role.

        Raises `StoreUnavailable` and what a writer raises.
        """
        records = {}
        with storing(self.root):
            for role, writer in writers.items():
                if not _ROLE.fullmatch(role):
                    raise ValueError(f"role is {role!r}: must be lower-case letters")
                final = self._file(version, role)
                partial = staging / final.name
                writer(partial)
                make_durable(partial)
                records[role] = FileRecord(final.name, sha256_of(partial), partial.stat().st_size)
                partial.rename(final)
            make_durable(self.root)
        return records

    def write_manifest(self, manifest: Manifest, staging: Path) -> None:
        """The last step: from here on the version can be read. Raises `StoreUnavailable`."""
        final = self._manifest(manifest.version)
        partial = staging / final.name
        with storing(self.root):
            partial.write_bytes(manifest.to_json())
            make_durable(partial)
            partial.rename(final)
            make_durable(self.root)

    def remove(self, version: int) -> None:
        """Removes all that bears this number, the manifest first. Raises `StoreUnavailable`."""
        with storing(self.root):
            self._manifest(version).unlink(missing_ok=True)
            for path in self.root.glob(f"{version:06d}.*"):
                path.unlink(missing_ok=True)
            shutil.rmtree(self.root / f".{version:06d}.partial", ignore_errors=True)

    def _file(self, version: int, role: str) -> Path:
        return self.root / f"{version:06d}.{role}.safetensors"

    def _manifest(self, version: int) -> Path:
        return self.root / f"{version:06d}.json"
