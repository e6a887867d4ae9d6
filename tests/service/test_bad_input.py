"""Every bad input is a problem document that names the field and what is allowed; nothing is queued, nothing breaks."""

from __future__ import annotations

import base64
import gzip
import io
import re
from typing import Any

import pytest
from PIL import Image

from service.http.problems import Problem
from service.uploads.decode import decode
from service.uploads.text import PRINTABLE, check_text
from tests.service.support import Running, bare_jpeg, flat_png, many_scans, picture, problem

pytestmark = pytest.mark.usefixtures("unharmed")

PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    ("body", "status", "allowed"),
    [
        (b"", 422, "JPEG, PNG or WebP"),
        (b"this is no image", 415, "JPEG, PNG or WebP"),
        (b"GIF89a" + bytes(100), 415, "JPEG, PNG or WebP"),
        (picture()[:-200], 422, "JPEG, PNG or WebP"),
        (picture(kind="JPEG")[:400], 422, "JPEG, PNG or WebP"),
        (bare_jpeg((7000, 7000)), 422, "JPEG, PNG or WebP"),
        (many_scans(40, 33), 422, "have at most 32"),
        (picture(kind="WEBP")[:60], 422, "JPEG, PNG or WebP"),
        (b"\x89PNG\r\n\x1a\n", 422, "JPEG, PNG or WebP"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X" + b"\x0a\0\0\0" + bytes(4) + b"\xff" * 6, 413, "50000000 pixels"),
        (flat_png(20_000), 413, "50000000 pixels"),
        (flat_png(8_000), 413, "50000000 pixels"),
    ],
    ids=[
        "empty",
        "text",
        "gif",
        "cut png",
        "cut jpeg",
        "bare jpeg",
        "33 scans",
        "cut webp",
        "bare png",
        "huge webp",
        "400 MP",
        "64 MP",
    ],
)
def test_images_that_are_none(server: Running, body: bytes, status: int, allowed: str) -> None:
    problem(server.client.post("/classify", content=body, headers=PNG), status, "body", allowed)
    many = server.client.post("/classify", files=[("files", ("a", picture())), ("files", ("b", body))])
    problem(many, status, "files[1]", allowed)
    parts = [("files", ("a", picture())), ("files", ("b", body))]
    task = server.client.post("/tasks", files=parts, data={"labels": ["cat", "dog"]})
    problem(task, status, "files[1]", allowed)


@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [
        ("tmax=0", "tmax", "greater than or equal to 1"),
        ("tmax=99", "tmax", "1..4"),
        ("tmax=x", "tmax", "valid integer"),
        ("tmax=1.5", "tmax", "valid integer"),
        ("epsilon=-1", "epsilon", "greater than or equal to 0"),
        ("epsilon=nan", "epsilon", "finite"),
        ("epsilon=inf", "epsilon", "finite"),
        ("topk=0", "topk", "greater than or equal to 1"),
        ("topk=13", "topk", "1..12"),
        ("topk=84449634567410973409280", "topk", "1..12"),  # more than 64 bits, which JSON's writer has not
        ("tmax=" + "9" * 400, "tmax", "1..4"),
        ("top=" + "9" * 30, "top", "less than or equal to 1000"),
        ("keep=0.4", "keep", "greater than or equal to 0.5"),
        ("keep=1.1", "keep", "less than or equal to 1"),
        ("budget_ms=0", "budget_ms", "greater than 0"),
        ("labels=unicorn", "labels", "6 labels"),
        ("top=0", "top", "greater than or equal to 1"),
        ("explain=perhaps", "explain", "valid boolean"),
        ("timeout_ms=0", "timeout_ms", "greater than or equal to 1"),
    ],
)
def test_budgets_and_choices_out_of_range(server: Running, query: str, field: str, allowed: str) -> None:
    problem(server.client.post(f"/classify?{query}", content=picture(), headers=PNG), 422, field, allowed)


def test_what_is_allowed_is_told_without_what_could_not_be_done(server: Running) -> None:
    for query, allowed in (("explain=perhaps", "be a valid boolean"), ("tmax=x", "be a valid integer")):
        answer = server.client.post(f"/classify?{query}", content=picture(), headers=PNG)
        assert answer.json()["errors"][0]["allowed"] == allowed


def saved(kind: str) -> bytes:
    """An image as Pillow writes it in that format."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (saved("GIF"), "a GIF image"),
        (saved("BMP"), "a BMP image"),
        (saved("TIFF"), "a TIFF image"),
        (saved("AVIF"), "an AVIF image"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1miafavifMA1B", "an AVIF image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC image"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video"),
        (saved("JPEG2000"), "a JPEG 2000 image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (saved("ICO"), "an ICO image"),
        (saved("PDF"), "a PDF document"),
        (base64.b64encode(saved("JPEG")), "an image in base64"),
        (b"data:image/png;base64," + base64.b64encode(saved("PNG")), "an image in base64"),
        (base64.b64encode(saved("WEBP")), "an image in base64"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG image"),
        (b"\n<!DOCTYPE html><title>Not Found</title>", "a web page"),
        (b"<html>", "a web page"),
        (b"PK\x03\x04", "a zip archive"),
        (gzip.compress(saved("JPEG")), "compressed with gzip"),
    ],
)
def test_a_format_that_is_not_accepted_is_named(data: bytes, told: str) -> None:
    with pytest.raises(Problem) as refused:
        decode(data, 32, 5_000)
    format_ = "it must be a JPEG, PNG or WebP image"
    assert refused.value.status == 415
    assert refused.value.detail == f"body is {told}, which is not among the formats known here; {format_}"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_was_taken_for_text_is_told_so(kind: str) -> None:
    whole = saved(kind)
    ways = [whole.translate(None, b"\0\r\n")]  # curl -d
    if kind != "WEBP":
        ways += [
            whole.decode("latin-1").encode(),
            whole.decode(errors="replace").encode(),
        ]  # scripts in pages
    if kind == "PNG":
        ways += [whole.replace(b"\r\n", b"\n"), whole.replace(b"\n", b"\r\n")]
    for data in ways:
        with pytest.raises(
            Problem, match=r"^body was changed as text on its way; .* curl needs --data-binary$"
        ):
            decode(data, 32, 5_000)
    assert decode(whole, 32, 5_000).shape == (3, 32, 32)


@pytest.mark.parametrize(
    "data", [b"BMW and GIF", b"\0\0\1\0", b"text", b"<htm", bytes(100), b" " * 2_000 + b"<html>"]
)
def test_what_only_looks_like_a_format_is_not_called_by_it(data: bytes) -> None:
    with pytest.raises(Problem, match=r"^body is in none of the formats known here; "):
        decode(data, 32, 5_000)


def test_a_deadline_may_be_larger_than_any_float(server: Running) -> None:
    answer = server.client.post(f"/classify?timeout_ms={'9' * 400}", content=picture(), headers=PNG)
    assert answer.status_code == 200, answer.text


def test_media_types_and_sizes(server: Running) -> None:
    post, config = server.client.post, server.config
    gif = {"Content-Type": "image/gif"}
    problem(post("/classify", content=picture(), headers=gif), 415, "Content-Type", "image/webp")
    problem(post("/classify", content=b"hello"), 415, "body", "JPEG, PNG or WebP")
    problem(post("/classify", json={}), 415, "Content-Type", "images in JSON go to /v2")
    problem(post("/tasks", json={}), 415, "Content-Type", "application/zip")
    large = bytes(config.max_body_bytes + 1)
    problem(post("/classify", content=large, headers=PNG), 413, "body", f"{config.max_body_bytes} bytes")
    pieces = (bytes(1 << 20) for _ in range(21))  # chunked: no length is announced
    problem(post("/classify", content=pieces, headers=PNG), 413, "body", f"{config.max_body_bytes} bytes")
    for many in (1, 65):
        files = [("files", ("a", b"x"))] * (config.max_classify_files + many)
        problem(post("/classify", files=files), 413, "files", "1 to 64")
    problem(post("/classify", files=[("x", (None, ""))] * 65), 413, "form fields", "1 to 64")
    problem(post("/classify", files=[("image", ("a", picture()))]), 422, "form field", "be files")
    problem(post("/classify", data={"file": "text"}, files=[("x", b"")]), 422, "file", "file part")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert post("/classify", content=b"nonsense", headers=broken).status_code == 400
    assert post("/classify", content=b"x", headers={"Content-Type": "multipart/form-data"}).status_code == 400


@pytest.mark.parametrize("path", ["/classify", "/tasks"])
@pytest.mark.parametrize("end", [b"", b"--x", b"--x-", b"--x\r\n"])
def test_a_form_that_was_cut_short_loses_no_file_in_silence(server: Running, path: str, end: bytes) -> None:
    def part(disposition: str, value: bytes) -> bytes:
        return f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + value + b"\r\n"

    label = part('name="labels"', b"cat") if path == "/tasks" else b""
    files = [part(f'name="files"; filename="{index}"', picture(index)) for index in range(2)]
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = server.client.post(path, content=label + b"".join(files) + end, headers=headers)
    assert answer.status_code == 400
    assert "last boundary" in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["", "; charset=iso-8859-1", "; charset=utf8mb4"])
def test_a_label_in_another_encoding_is_not_guessed_at(server: Running, charset: str) -> None:
    labels = b"".join(labelled(text) for text in (b"dog", "caf\u00e9".encode("latin-1")))
    headers = {"Content-Type": f"multipart/form-data; boundary=x{charset}"}
    answer = server.client.post("/tasks", content=labels + b"--x--\r\n", headers=headers)
    problem(answer, 422, "labels[1]", "be UTF-8")
    assert answer.json()["errors"][0]["value"] == r"caf\xe9"


def labelled(text: bytes) -> bytes:
    """A form's part, up to the next boundary."""
    return b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\n' + text + b"\r\n"


@pytest.mark.parametrize("charset", ["", "; charset=utf8mb4"])
def test_a_label_is_utf8_whatever_a_form_calls_it(server: Running, charset: str) -> None:
    file = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + picture() + b"\r\n"
    label = labelled("caf\u00e9\0".encode())  # refused for its last character, so that nothing is queued
    headers = {"Content-Type": f"multipart/form-data; boundary=x{charset}"}
    answer = server.client.post("/tasks", content=label + file + b"--x--\r\n", headers=headers)
    problem(answer, 422, "labels[0]", "printable")
    assert answer.json()["errors"][0]["value"] == "caf\u00e9?"


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/classify", "image/png"),
        ("POST", "/tasks", "application/zip"),
        ("POST", "/feedback", "application/json"),
        ("PATCH", "/labels/{label}", "application/json"),
    ],
)
def test_a_body_compressed_on_the_way_is_told_apart(
    server: Running, method: str, path: str, kind: str
) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": kind}
    response = server.client.request(method, path, content=gzip.compress(picture()), headers=headers)
    problem(response, 415, "Content-Encoding", "be identity")
    assert response.headers["accept-encoding"] == "identity"
    operation = server.client.get("/openapi.json").json()["paths"][path][method.lower()]
    assert "415" in operation["responses"]


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_a_body_that_is_told_to_be_compressed_in_no_way_is_taken(server: Running, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    assert server.client.post("/classify", content=picture(), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("files", "labels", "field", "allowed"),
    [
        (2, ["cat"], "labels", "be 2"),
        (2, [], "labels", "be 2"),
        (1, ['["cat"]'], "labels", "as plain text"),
        (2, ['["cat", "dog"]'], "labels", "as plain text"),
        (1, ["cat", "dog"], "labels", "be 1"),
        (0, ["cat"], "files", "at least one"),
        (2, ["cat", ""], "labels[1]", "1 to 200"),
        (1, ["  "], "labels[0]", "1 to 200"),
        (1, ["\u200b"], "labels[0]", "1 to 200"),
        (1, ["\ufeff \u200e"], "labels[0]", "1 to 200"),
        (1, ["c\x00t"], "labels[0]", "1 to 200"),
        (1, ["c" * 201], "labels[0]", "1 to 200"),
    ],
)
def test_labels_that_do_not_fit(
    server: Running, files: int, labels: list[str], field: str, allowed: str
) -> None:
    parts: list[Any] = [("files", (f"{index}", picture(index))) for index in range(files)]
    parts += [("labels", (None, label.encode())) for label in labels]
    problem(server.client.post("/tasks", files=parts), 422, field, allowed)


def test_a_task_of_too_many_files_or_labels(server: Running) -> None:
    for name, part, field in (("files", ("a", b""), "files"), ("labels", (None, "a"), "form fields")):
        answer = server.client.post("/tasks", files=[(name, part)] * 20_001)
        problem(answer, 413, field, "1 to 20000")


def test_labels_that_are_too_long_to_be_kept(server: Running) -> None:
    labels = [("labels", (None, label)) for label in ("cat", "c" * ((1 << 20) + 1))]
    problem(server.client.post("/tasks", files=labels), 413, "labels[1]", "at most 1048576 bytes")


def test_labels_that_are_too_long_together(server: Running) -> None:
    labels = [f"{number:0200}" for number in range(1320)]
    parts: list[Any] = [("files", (label[-4:], b"never decoded")) for label in labels]
    parts += [("labels", (None, label)) for label in labels]
    problem(server.client.post("/tasks", files=parts), 422, "labels", "at most 262144 bytes together")


@pytest.mark.parametrize(
    ("method", "path", "field", "allowed"),
    [
        ("POST", "/versions/1/activate?canry=0.1", "canry", "be left out; known are canary"),
        ("POST", "/versions/1/activate?canary=0.1&canary=1", "canary", "be given once"),
        ("POST", "/tasks?nme=cats", "nme", "be left out; known are name"),
        ("GET", "/tasks?stat=failed", "stat", "be left out; known are limit, state"),
        ("GET", "/tasks?state=failed&state=queued", "state", "be given once"),
    ],
)
def test_a_misspelled_parameter_is_not_passed_over(
    server: Running, method: str, path: str, field: str, allowed: str
) -> None:
    """One for a canary would let the version answer everybody."""
    problem(server.client.request(method, path), 422, field, allowed)


def test_characters_that_nobody_sees_are_part_of_a_label_but_none_alone() -> None:
    family, persian = "\U0001f468\u200d\U0001f469", "\u0645\u06cc\u200c\u0631\u0648\u062f"
    for label in (family, persian, "cat"):
        assert check_text("label", label) == label
        assert re.search(PRINTABLE, label)
    assert check_text("label", "\ufeffcat") == "cat"
    for invisible in ("\u200b", "\ufeff", "\u200b \u2060", "\xad", "cat\u202e", "\u2067cat"):
        with pytest.raises(Problem):
            check_text("label", invisible)
        assert not re.search(PRINTABLE, invisible)


def test_an_image_in_a_part_without_a_filename_is_said_to_lack_it(server: Running) -> None:
    kind = "multipart/form-data; boundary=x"
    for name, part in (("files", b""), ("file", b"\r\nContent-Type: image/png")):
        head = b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n' % (name.encode(), part)
        for image in (picture(), bytes(2_000_000)):  # which is more than text may have
            body = head + image + b"\r\n--x--\r\n"
            for path in ("/classify", "/tasks"):
                answer = server.client.post(path, content=body, headers={"Content-Type": kind})
                problem(answer, 422, f"{name}[0]", "be sent as a file part, with a filename, no filename*,")
                assert answer.json()["errors"][0]["value"] == "has no filename"


def test_several_images_in_one_part_are_told_to_come_in_one_each(server: Running) -> None:
    """As `curl -F files=@1.png,2.png` sends them."""
    part = b'--y\r\nContent-Disposition: attachment; filename="1.png"\r\n\r\n' + picture() + b"\r\n--y--\r\n"
    head = b'--x\r\nContent-Disposition: form-data; name="files"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = server.client.post("/classify", content=head + part + b"\r\n--x--\r\n", headers=kind)
    problem(answer, 422, "files[0]", "repeat it for each")


def test_names_keys_and_paths(server: Running) -> None:
    files = {"files": ("a", picture())}
    labels = {"labels": ["cat"]}
    post, get = server.client.post, server.client.get
    problem(post("/tasks?name=" + "n" * 201, files=files, data=labels), 422, "name", "1 to 200")
    spaced = {"Idempotency-Key": "a b"}
    problem(post("/tasks", files=files, data=labels, headers=spaced), 422, "idempotency-key", "match pattern")
    problem(get("/tasks?limit=0"), 422, "limit", "greater than or equal to 1")
    problem(get("/versions/x"), 422, "version", "valid integer")
    for path in ("/tasks/none", "/tasks/none/events", "/versions/99", "/nowhere"):
        response = get(path)
        assert response.status_code == 404, path
        assert response.headers["content-type"] == "application/problem+json"
    assert server.client.delete("/tasks/none").status_code == 404
    long = "x" * 20_000
    for path in (f"/tasks/{long}", f"/v2/models/{long}", f"/v2/models/hippotune/versions/{long}"):
        response = get(path)
        assert response.status_code == 404
        assert len(response.content) < 500
    assert len(server.client.delete(f"/tasks/{long}").content) < 500
    assert server.client.put("/classify").status_code == 405
