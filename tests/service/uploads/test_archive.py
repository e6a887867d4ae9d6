"""Archives as the tools of other people write them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from zlib import crc32

import pytest

from tests.service.support import Running, commented, picture, problem, zip64, zipped

TAR = {"Content-Type": "application/x-tar"}
ZIP = {"Content-Type": "application/zip"}


def cp437(body: bytes) -> bytes:
    """The same zip without the flags that call its names UTF-8."""
    old = bytearray(body)
    for mark, flags in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        at = -1
        while (at := old.find(mark, at + 1)) >= 0:
            old[at + flags] &= ~0x08
    return bytes(old)


@pytest.mark.parametrize(
    ("body", "labels"),
    [
        (zipped("flowers/", "flowers/rose/1.png", "flowers/tulip/1.png"), ["rose", "tulip"]),
        (zipped("rose\\", "rose\\1.png", "pets\\cat\\1.png"), ["cat", "rose"]),
        (cp437(zipped("été/1.png", "玫瑰/1.png")), ["été", "玫瑰"]),
        (cp437(zipped("caf?/1.png")).replace(b"caf?", b"caf\x82"), ["café"]),
        (zipped("rose/1.png", "rose/.thumbs/1.png", ".trash/a/1.png", "__MACOSX/a/1.png"), ["rose"]),
        (zip64(2), ["cat"]),
        (commented(zipped("cat/1.png"), b"made by hand"), ["cat"]),
    ],
    ids=["a folder around", "backslashes", "utf-8 untold", "code page 437", "hidden", "zip64", "comment"],
)
def test_zips_as_other_tools_write_them(server: Running, body: bytes, labels: list[str]) -> None:
    response = server.client.post("/tasks", content=body, headers=ZIP)
    assert response.status_code == 202, response.text
    assert response.json()["labels"] == labels


def in_code_page(name: str, page: str, extra: bytes = b"") -> bytes:
    """A zip that does not tell in which encoding its name is."""
    written = name.encode(page)
    buffer, info = io.BytesIO(), zipfile.ZipInfo("x" * len(written))
    info.extra = extra
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, picture())
    return buffer.getvalue().replace(info.filename.encode(), written)


def unicode_path(told: str, of: bytes) -> bytes:
    field = b"\x01" + crc32(of).to_bytes(4, "little") + told.encode()
    return b"UT\x01\0\0" + b"up" + len(field).to_bytes(2, "little") + field


@pytest.mark.parametrize(
    ("name", "page"), [("薔薇/1.png", "cp932"), ("роза\\1.png", "cp1251"), ("röse/1.png", "cp1252")]
)
def test_a_label_in_an_encoding_that_is_not_told_is_not_guessed_at(
    server: Running, name: str, page: str
) -> None:
    response = server.client.post("/tasks", content=in_code_page(name, page), headers=ZIP)
    problem(response, 422, "name in the archive", "be in UTF-8")
    told = in_code_page(name, page, unicode_path(name, name.encode(page)))
    response = server.client.post("/tasks", content=told, headers=ZIP)
    assert response.status_code == 202, response.text
    assert response.json()["labels"] == [name.replace("\\", "/").partition("/")[0]]
    of_another = in_code_page(name, page, unicode_path(name, b"another"))
    assert server.client.post("/tasks", content=of_another, headers=ZIP).status_code == 422


def test_only_the_label_must_be_told(server: Running) -> None:
    body = in_code_page("розы/rose/фото.png", "cp1251")
    response = server.client.post("/tasks", content=body, headers=ZIP)
    assert response.status_code == 202, response.text
    assert response.json()["labels"] == ["rose"]


@pytest.mark.parametrize("written", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_as_other_tools_write_them(server: Running, written: int) -> None:
    """Names that do not fit a header, exact times, and what a desktop notes beside each file."""
    buffer, folder = (
        io.BytesIO(),
        "photographs of " + ("birds" if written == tarfile.USTAR_FORMAT else "鳥" * 99),
    )
    with tarfile.open(fileobj=buffer, mode="w", format=written) as archive:
        for number in range(40):
            info, data = tarfile.TarInfo(f"{folder}/rose/{number}.png"), picture(number)
            info.size, info.pax_headers = (
                len(data),
                {"mtime": "1767225600.25", "SCHILY.xattr.note": "x" * 2000},
            )
            archive.addfile(info, io.BytesIO(data))
    response = server.client.post("/tasks", content=buffer.getvalue(), headers=TAR)
    assert response.status_code == 202, response.text
    assert (response.json()["labels"], response.json()["images"]) == (["rose"], 40)
