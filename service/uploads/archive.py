"""Labelled images in a zip or tar, laid out as an ImageFolder or a WebDataset; see `service.uploads.layouts`.

Nothing is unpacked to disk and no name from an archive ever reaches the file system. Names, counts, sizes and
the growth on unpacking are checked from the archive's own directory before any member is read.
"""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import IO
from zlib import crc32

from service.config import ServiceConfig
from service.http.problems import Problem, refused
from service.uploads.images import Upload
from service.uploads.inspection import MOST_LISTED, short, unlearnable
from service.uploads.layouts import LAYOUT, Member, labelled

ZIP_TYPES = ("application/zip", "application/x-zip-compressed")
TAR_TYPES = ("application/x-tar",)
MAX_NAME = 512
PLAIN = "be a plain file, no link or device"
FOLLOWED = "; `tar --dereference --hard-dereference` stores what links lead to"
READABLE = (
    "be in UTF-8, for the zip does not tell its encoding: use a program that writes UTF-8, or send a tar"
)
FILES_AN_IMAGE = 3
"""Entries of an archive that may come with one image: the image, its label, its folder or a caption."""
JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
UTF8_NAME = 0x800
UNICODE_PATH = 0x7075
LETTERS = frozenset("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜáíóúñÑªºß")
"""Of code page 437. Where it has Greek, signs and lines, other code pages have letters of their own."""
ENTRY = b"PK\x01\x02"
"""How each entry of a zip's directory begins."""
END = b"PK\x05\x06"
"""How the record begins that ends a zip: where its directory is, how large, and a comment."""
HEADER_ROOM, HEADER_ROOM_AN_ENTRY = 64 * 1024, 4 * 1024
"""Bytes of headers that a tar may have once, and for each entry besides: tarfile makes an object of every few of them.
An entry has 512, and where names are long or times exact a kilobyte or two more."""
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""First bytes of files that gzip, bzip2, xz and Zstandard wrote."""


def unpack(file: IO[bytes], size: int, media_type: str, config: ServiceConfig) -> list[Upload]:
    """The labelled images of an archive of `size` bytes, readable for as long as `file` is open.

    Raises Problem for anything but a sound archive within the limits.
    """
    if size == 0:
        raise refused("body", "empty", "be a zip or tar archive of images")
    members: list[Member] = []
    total = 0
    found = zip_members(file, size, config) if media_type in ZIP_TYPES else tar_members(file, config)
    for member in found:
        if member.size > config.max_image_bytes:
            raise too_large(member, found, len(members) + 1, config.max_image_bytes)
        total += member.size
        members.append(member)
        if total > config.max_unpacked_bytes or total > config.max_archive_ratio * size:
            most, ratio = config.max_unpacked_bytes, config.max_archive_ratio
            allowed = f"unpack to at most {most} bytes and {ratio} times its size"
            raise refused("body", f"at least {total} bytes unpacked", allowed, 413)
    uploads = labelled(members)
    if len(uploads) > config.max_task_images:
        raise refused("body", f"{len(uploads)} images", f"hold at most {config.max_task_images} images", 413)
    if not uploads:
        raise refused("body", "an archive without images", f"hold at least one image and {LAYOUT}")
    return uploads


def too_large(first: Member, rest: Iterator[Member], seen: int, most: int) -> Problem:
    """What is wrong with a member of more than `most` bytes, the `seen`th, and with all others behind it of so many."""
    large, sound = [first], False
    with suppress(Problem):  # of something else, which can be told once these are gone
        for member in rest:
            seen += 1
            if member.size > most:
                large.append(member)
        sound = True
    allowed = f"be at most {most} bytes"
    told = [
        (each.name, refused(short(each.name), f"{each.size} bytes", allowed, 413))
        for each in large[:MOST_LISTED]
    ]
    return unlearnable(told, seen, all_seen=sound and len(large) <= MOST_LISTED)


def zip_members(file: IO[bytes], size: int, config: ServiceConfig) -> Iterator[Member]:
    """Files of a zip. Raises Problem."""
    check_directory(file, size, config.max_task_images)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise Problem(422, f"body is no sound zip archive: {error}") from error
    for info in archive.infolist():
        name = zip_name(info)
        if not wanted(name, name.endswith("/")):  # is_dir() fails on an empty name
            continue
        if info.flag_bits & 0x1:
            raise refused(name, "encrypted", "be readable without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refused(name, f"compression {info.compress_type}", "be stored or deflated")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise refused(name, "no plain file", PLAIN)
        yield Member(name, info.file_size, partial(read_zip, archive, info))


def zip_name(info: zipfile.ZipInfo) -> str:
    """The name as its writer meant it, with slashes: some on Windows write backslashes. Raises Problem."""
    told = info.filename if info.flag_bits & UTF8_NAME else unicode_path(info)
    name = untold(info.orig_filename) if told is None else told
    return name.replace("\\", "/")


def unicode_path(info: zipfile.ZipInfo) -> str | None:
    """The name that some on Windows put beside one in their own code page ("Info-ZIP Unicode Path" of APPNOTE.TXT).

    None where there is none, and where it belongs to another name than the entry has.
    """
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and len(field) > 5:
            with suppress(UnicodeError):
                if int.from_bytes(field[1:5], "little") == crc32(info.orig_filename.encode("cp437")):
                    return field[5:].decode()
    return None


def untold(name: str) -> str:
    """A name in an encoding that its zip does not tell, which zipfile takes for code page 437.

    Writers on Unix and macOS use UTF-8 without saying so. Some on Windows use their own code page, and a label would be
    one that nobody wrote: raises Problem, where the folder has what is no letter of 437.
    """
    with suppress(UnicodeError):
        return name.encode("cp437").decode()
    folder = PurePosixPath(name.replace("\\", "/")).parent.name
    if any(not char.isascii() and char not in LETTERS for char in folder):
        raise refused("name in the archive", name, READABLE)
    return name


def read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """One member. zipfile reads no more than the size that was checked, then compares the checksum."""
    try:
        return archive.read(info)
    except MemoryError:  # no fault of the archive
        raise
    except Exception as error:  # zlib, checksum, overlap, end of file: each has its own type
        raise Problem(422, f"{info.filename!r} is damaged inside the zip archive: {error}") from error


def is_in_comment(tail: bytes, at: int) -> bool:
    """Whether what looks like a zip's end record lies in the comment of the true one, which lasts to the file's end.

    zipfile takes the last that it finds, and would read a directory that is none.
    """
    before = tail.rfind(END, 0, at)
    while before >= 0:
        comment = int.from_bytes(tail[before + 20 : before + 22], "little")
        if before + 22 + comment == len(tail):
            return True
        before = tail.rfind(END, 0, before)
    return False


def check_directory(file: IO[bytes], size: int, max_entries: int) -> None:
    """Bound the central directory before zipfile reads all of it into objects. Raises Problem."""
    tail_at = max(0, size - 65_557 - 76)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(END)
    if is_in_comment(tail, at):
        raise refused("body", f"a zip archive with {END!r} in its comment", "have no such comment")
    if at < 0 or len(tail) < at + 22:
        raise refused("body", "no zip archive", "be a zip archive")
    (directory,) = struct.unpack_from("<L", tail, at + 12)
    if at >= 76 and tail[at - 76 :].startswith(b"PK\x06\x06") and tail[at - 20 :].startswith(b"PK\x06\x07"):
        (directory,) = struct.unpack_from("<Q", tail, at - 76 + 40)  # zip64, as zipfile finds it
    # 46 bytes of fixed header, a name, and what writers add: times, owners.
    if directory > FILES_AN_IMAGE * max_entries * (46 + 256):
        raise refused("body", f"a directory of {directory} bytes", f"hold at most {max_entries} images", 413)
    file.seek(max(0, tail_at + at - directory))  # zip64's records may stand between; they hold no entry
    if file.read(directory).count(ENTRY) > FILES_AN_IMAGE * max_entries:
        raise refused("body", "more entries", f"hold at most {max_entries} images", 413)
    file.seek(0)


def tar_members(file: IO[bytes], config: ServiceConfig) -> Iterator[Member]:
    """Files of an uncompressed tar. Raises Problem."""
    if file.read(6).startswith(COMPRESSED):
        raise refused("body", "compressed", "be a plain tar: images are compressed already")
    file.seek(0)
    reader = HeaderReader(file)
    try:
        archive = tarfile.open(fileobj=reader, mode="r:")  # noqa: SIM115 - nothing to close
        for seen, info in enumerate(archive):
            if seen > FILES_AN_IMAGE * config.max_task_images:
                raise refused("body", "more entries", f"hold at most {config.max_task_images} images", 413)
            reader.room += HEADER_ROOM_AN_ENTRY
            info.pax_headers = {}  # tarfile keeps every entry, and a kilobyte may hold a hundred of these
            archive.pax_headers = {}  # those of all entries: any may add to them, and each gets a copy
            if not wanted(info.name, info.isdir()):
                continue
            if not info.isreg() or info.issparse():
                raise refused(info.name, "no plain file", PLAIN + FOLLOWED)
            yield Member(info.name, info.size, partial(read_tar, file, info))
    except (tarfile.TarError, ValueError, OSError, OverflowError, RecursionError) as error:
        raise Problem(422, f"body is no sound tar archive: {error}") from error


class HeaderReader(io.BufferedIOBase):
    """A tar as tarfile reads it in search of entries: nothing but headers, and of these no more than there is room for.

    One that says so is read whole, however large, and made into objects of many times its size.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.room = file, HEADER_ROOM

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        """Raises Problem where there is no room left."""
        asked = self.room + 1 if size is None or size < 0 else size
        self.room -= asked
        if self.room < 0:
            most = f"need at most {HEADER_ROOM_AN_ENTRY} bytes an entry"
            raise refused("headers in the archive", "larger", most, 413)
        return self._file.read(asked)


def read_tar(file: IO[bytes], info: tarfile.TarInfo) -> bytes:
    """One member, as it stands in the file: no other kind is read."""
    file.seek(info.offset_data)
    data = file.read(info.size)
    if len(data) != info.size:
        raise Problem(422, f"{info.name!r} is cut short inside the tar archive")
    return data


def wanted(name: str, is_directory: bool) -> bool:
    """False for directories and what desktops leave behind, hidden or not. Raises Problem for a name that leads out."""
    if len(name) > MAX_NAME:
        raise refused("name in the archive", name, f"have at most {MAX_NAME} characters")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name[:2]:
        raise refused("name in the archive", name, f"{LAYOUT}, without .., drive or leading slash")
    return not (is_directory or any(part.startswith(".") or part.lower() in JUNK for part in path.parts))
