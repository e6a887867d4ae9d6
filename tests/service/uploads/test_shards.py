"""WebDataset shards: an image and its label are files that share a name."""

from __future__ import annotations

import pytest

from tests.exchange.working import take
from tests.service.support import Running, archived, picture

SHARD = {
    "000000.jpg": picture(1, "JPEG"),
    "000000.cls": b"7\n",
    "000001.png": picture(2),
    "000001.json": b'{"label": "dog", "author": "me"}',
    "000001.txt": b"a caption",
    "part/000002.seg.jpg": picture(3, "JPEG"),
    "part/000002.cls": "Käfer".encode(),
    "000003.JPG": picture(4, "JPEG"),
    "000003.CLS": b"cat",
    "000004.jfif": picture(5, "JPEG"),
    "000004.cls": b"owl",
}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_webdataset_shard(taught: Running, kind: str) -> None:
    media = {"zip": "application/zip", "tar": "application/x-tar"}[kind]
    response = taught.client.post("/tasks", content=archived(SHARD, kind), headers={"Content-Type": media})
    assert response.status_code == 202, response.text
    claim = take(taught.queue)
    assert claim is not None
    labels = {taught.services.blobs.get(sample.blob): sample.label for sample in claim.samples}
    assert labels == {
        picture(1, "JPEG"): "7",
        picture(2): "dog",
        picture(3, "JPEG"): "Käfer",
        picture(4, "JPEG"): "cat",
        picture(5, "JPEG"): "owl",
    }
    taught.queue.finish(claim)


def test_a_label_file_that_windows_wrote_names_the_same_label(taught: Running) -> None:
    """A class of two spellings that look the same would be two."""
    members = {
        "1.jpg": picture(1, "JPEG"),
        "1.cls": "\ufeffcat\r\n".encode(),
        "2.jpg": picture(2, "JPEG"),
        "2.json": '\ufeff{"label": "cat"}'.encode(),
    }
    media = {"Content-Type": "application/x-tar"}
    response = taught.client.post("/tasks", content=archived(members), headers=media)
    assert response.json()["labels"] == ["cat"]


def test_notes_beside_folders_make_no_shard_of_them(taught: Running) -> None:
    members = {
        "meta.json": b"{}",
        "flowers/README.md": b"whose they are",
        "flowers/rose/a.jpg": picture(6, "JPEG"),
        "flowers/rose/labels.csv": b"a.jpg,rose",
        "flowers/rose/a.json": b'{"label": "tulip"}',
    }
    media = {"Content-Type": "application/x-tar"}
    response = taught.client.post("/tasks", content=archived(members), headers=media)
    assert (response.status_code, response.json()["labels"]) == (202, ["rose"])
    assert (
        taught.client.post("/tasks", content=archived({"meta.json": b"{}"}), headers=media).status_code == 422
    )


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"1.jpg": b"x", "2.jpg": b"x", "2.cls": b"1"}, "'1.jpg'; it must have its label beside it"),
        ({"1.cls": b"1"}, "'1.cls'; it must have its image beside it"),
        ({"1.jpg": b"x", "1.seg.png": b"x", "1.cls": b"1"}, "'1.seg.png'; it must be the only image"),
        ({"1.jpg": b"x", "1.json": b'{"caption": "cat"}'}, "it must name its label as"),
        ({"1.jpg": b"x", "1.json": b"{"}, "is no JSON"),
        ({"1.jpg": b"x", "1.cls": b"\xff"}, "is no UTF-8"),
        ({"1.jpg": picture(), "1.cls": b""}, "have 1 to 200 printable characters"),
    ],
)
def test_a_shard_that_cannot_be_learned_says_why(
    server: Running, members: dict[str, bytes], told: str
) -> None:
    response = server.client.post(
        "/tasks", content=archived(members), headers={"Content-Type": "application/x-tar"}
    )
    assert response.status_code == 422
    assert told in response.json()["detail"]
