"""Archives that are damaged, malicious or laid out otherwise are refused, and nothing of them is queued."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from service.config import ServiceConfig
from service.uploads.archive import unpack
from tests.service.support import Running, archived, commented, picture, problem, zeros_zip, zip64, zipped

pytestmark = pytest.mark.usefixtures("unharmed")

ZIP = {"Content-Type": "application/zip"}
TAR = {"Content-Type": "application/x-tar"}


def encrypted() -> bytes:
    """Only the flag: the point is that nothing is asked for a password."""
    body = bytearray(zipped("cat/1.png"))
    body[body.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(body)


def linked() -> bytes:
    buffer, link = io.BytesIO(), zipfile.ZipInfo("cat/1.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "status", "field", "allowed"),
    [
        (lambda: b"", 422, "body", "archive"),
        (lambda: b"no zip", 422, "body", "zip archive"),
        (lambda: zipped(), 422, "body", "at least one image"),
        (lambda: zipped("cat/"), 422, "body", "at least one image"),
        (lambda: zipped("cat/1.png", "../evil.png"), 422, "name in the archive", "label/image.jpg"),
        (lambda: zipped("/cat/1.png"), 422, "name in the archive", "label/image.jpg"),
        (lambda: zipped("cat\\..\\1.png"), 422, "name in the archive", "label/image.jpg"),
        (lambda: zipped("C:/1.png"), 422, "name in the archive", "label/image.jpg"),
        (lambda: zipped("1.png"), 422, "name in the archive", "label/image.jpg"),
        (lambda: zipped("c" * 600 + "/1.png"), 422, "name in the archive", "512"),
        (lambda: zipped("nameless").replace(b"nameless", b"\0ameless"), 422, "name in the archive", "label/image.jpg"),
        (lambda: zipped("cat/1.gif", data=b"text"), 415, "files[0]", "JPEG, PNG or WebP"),
        (lambda: zipped("cat/1.png", method=zipfile.ZIP_LZMA), 422, "cat/1.png", "stored or deflated"),
        (encrypted, 422, "cat/1.png", "password"),
        (linked, 422, "cat/1.png", "plain file"),
        (lambda: zeros_zip(10, 1 << 30), 413, "zero/0.png", "20971520 bytes"),
        (lambda: zeros_zip(600, 16 << 20), 413, "body", "100 times"),
    ],
    ids=[
        "empty body", "no zip", "empty zip", "only folders", "dot dot", "absolute", "backslash", "drive", "no label",
        "long name", "no name", "text inside", "lzma", "encrypted", "link", "10 GB in 10", "10 GB in 600",
    ],
)  # fmt: skip
def test_zip_archives(
    server: Running, make: Callable[[], bytes], status: int, field: str, allowed: str
) -> None:
    problem(server.client.post("/tasks", content=make(), headers=ZIP), status, field, allowed)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (1, "zero/0.png is '22020096 bytes'; it must be at most 20971520 bytes"),
        (7, "7 of 7 images cannot be learned: zero/0.png is"),
        (120, "at least 100 of 120 images cannot be learned: zero/0.png is"),
    ],
)
def test_all_files_that_are_too_large_are_told(server: Running, files: int, told: str) -> None:
    answer = server.client.post("/tasks", content=zeros_zip(files, 21 << 20), headers=ZIP)
    problem(answer, 413, "zero/0.png", "20971520 bytes")
    assert answer.json()["detail"].startswith(told)
    assert len(answer.json()["errors"]) == min(files, 100)


def test_of_a_long_name_of_a_file_that_is_too_large_the_end_is_told(server: Running) -> None:
    names = [f"{'long ' * 30}/IMG_{number}.png" for number in range(2)]
    body = archived(dict.fromkeys(names, bytes(21 << 20)), "zip")
    answer = server.client.post("/tasks", content=body, headers=ZIP)
    assert [error["field"][-10:] for error in answer.json()["errors"]] == ["/IMG_0.png", "/IMG_1.png"]


def test_a_zip64_directory_is_bounded_too(server: Running) -> None:
    body = zip64(1)
    at = body.rindex(b"PK\x06\x06") + 40
    large = body[:at] + struct.pack("<Q", 1 << 40) + body[at + 8 :]
    problem(server.client.post("/tasks", content=large, headers=ZIP), 413, "body", "20000 images")


@pytest.mark.parametrize("comment", [b"ends in PK\5\6, like this one", b"PK\5\6" + bytes(18), b"PK\5\6" * 9])
def test_a_comment_that_holds_the_mark_of_an_archives_end(server: Running, comment: bytes) -> None:
    answer = server.client.post("/tasks", content=commented(zipped("cat/1.png"), comment), headers=ZIP)
    problem(answer, 422, "body", "no such comment")


def test_a_zip_whose_content_is_damaged(server: Running) -> None:
    body = bytearray(zipped("cat/1.png"))
    body[200] ^= 0xFF
    response = server.client.post("/tasks", content=bytes(body), headers=ZIP)
    assert response.status_code == 422
    assert "cat/1.png" in response.json()["detail"]


def test_memory_that_is_short_is_no_damage_of_a_zip(
    config: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> bytes:
        raise MemoryError

    body = zipped("cat/1.png")
    (upload,) = unpack(io.BytesIO(body), len(body), ZIP["Content-Type"], config)
    monkeypatch.setattr(zipfile.ZipFile, "read", short)
    with pytest.raises(MemoryError):
        upload.read()


def tarred(name: str, kind: bytes = tarfile.REGTYPE, cut: int = 0) -> bytes:
    buffer, data = io.BytesIO(), picture()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, "/etc/passwd", len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()[: 512 + len(data) - cut]


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        (tarred("../1.png"), "name in the archive", "label/image.jpg"),
        (tarred("cat/1.png", tarfile.SYMTYPE), "cat/1.png", "`tar --dereference"),
        (tarred("cat/1.png", tarfile.CHRTYPE), "cat/1.png", "plain file"),
    ],
    ids=["dot dot", "link", "device"],
)
def test_tar_archives(server: Running, body: bytes, field: str, allowed: str) -> None:
    problem(server.client.post("/tasks", content=body, headers=TAR), 422, field, allowed)


@pytest.mark.parametrize(
    ("kind", "size", "status"), [(tarfile.SYMTYPE, 0, 422), (tarfile.REGTYPE, 1 << 30, 413)]
)
def test_a_name_in_no_utf8_can_be_told(server: Running, kind: bytes, size: int, status: int) -> None:
    """Python reads it with surrogates, which no JSON can hold."""
    info = tarfile.TarInfo("caf\udce9/1.png")
    info.type, info.linkname, info.size = kind, "/etc/passwd", size
    body = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    problem(server.client.post("/tasks", content=body, headers=TAR), status, "caf?/1.png", "be")


def test_a_label_in_no_utf8_is_refused_for_that(server: Running) -> None:
    buffer, info, data = io.BytesIO(), tarfile.TarInfo("café/1.png"), picture()
    info.size = len(data)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(info, io.BytesIO(data))
    body = buffer.getvalue()
    problem(server.client.post("/tasks", content=body, headers=TAR), 422, "labels[0]", "be in UTF-8")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tar_archives(server: Running, compress: Callable[[bytes], bytes]) -> None:
    body = compress(tarred("cat/1.png"))
    problem(server.client.post("/tasks", content=body, headers=TAR), 422, "body", "plain tar")


def extended(*lengths: int) -> bytes:
    """Pax headers of so many bytes each, one after another, of records of a few bytes."""
    parts = []
    for length in lengths:
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, length // 6 * 6
        parts.append(info.tobuf(tarfile.USTAR_FORMAT) + b"6 a=b\n" * (length // 6) + bytes(-info.size % 512))
    return b"".join(parts)


@pytest.mark.parametrize("lengths", [(1 << 20,), (30_000,) * 3, (6,) * 100], ids=["one", "three", "hundred"])
def test_headers_of_tar_archives_are_bounded(server: Running, lengths: tuple[int, ...]) -> None:
    body = extended(*lengths) + tarred("cat/1.png")
    answer = server.client.post("/tasks", content=body, headers=TAR)
    problem(answer, 413, "headers in the archive", "4096 bytes an entry")


def test_headers_upon_headers_of_tar_archives_end_somewhere(server: Running) -> None:
    body = tarfile.TarInfo(".hidden").tobuf() * 600 + extended(*(6,) * 1200) + tarred("cat/1.png")
    assert server.client.post("/tasks", content=body, headers=TAR).status_code == 422


def test_headers_for_all_entries_of_a_tar_are_not_heaped_up(
    monkeypatch: pytest.MonkeyPatch, config: ServiceConfig
) -> None:
    """Each entry gets a copy of them."""
    copied: list[int] = []
    name = "_apply_pax_info"
    apply = getattr(tarfile.TarInfo, name)

    def noting(info: tarfile.TarInfo, headers: dict[str, str], *rest: str) -> None:
        copied.append(len(headers))
        apply(info, headers, *rest)

    monkeypatch.setattr(tarfile.TarInfo, name, noting)
    body = b""
    for index in range(20):
        note = tarfile.TarInfo.create_pax_global_header(
            {f"note{index}.{number}": "" for number in range(100)}
        )
        body += note + tarfile.TarInfo(f"cat/{index}.png").tobuf()
    assert len(unpack(io.BytesIO(body), len(body), TAR["Content-Type"], config)) == 20
    assert copied == [100] * 20


def test_entries_of_zip_archives_are_bounded_however_short(server: Running) -> None:
    entry = struct.pack("<4s4x2H2L3L5H2L", b"PK\1\2", 0, 0, 0, 0x21, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 60_001
    body = directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(directory), 0, 0)
    problem(server.client.post("/tasks", content=body, headers=ZIP), 413, "body", "20000 images")


@pytest.mark.parametrize(
    "body", [b"", b"no tar" * 200, tarred("cat/1.png", cut=100)], ids=["empty", "none", "cut"]
)
def test_tar_archives_that_are_damaged(server: Running, body: bytes) -> None:
    assert server.client.post("/tasks", content=body, headers=TAR).status_code == 422
