"""What is made of an image before it is sent, and which are told to be none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from hippotune.encoding import whole
from hippotune.packing import Unfit
from hippotune.sources import open_source
from tests.service import support

NOWHERE = Path("/nowhere")


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_of_grey_stay_sixteen(tmp_path: Path, order: str) -> None:
    grey = np.linspace(0, 0xFFFF, 64).reshape(8, 8).astype(order)
    Image.fromarray(grey).save(tmp_path / "grey.tif")
    (tmp_path / "set.csv").write_text("path,label\ngrey.tif,scan\n")
    sent = Image.open(io.BytesIO(open_source(str(tmp_path / "set.csv"), tmp_path).load(0)))
    assert (sent.format, sent.mode) == ("PNG", "I;16")
    assert (np.asarray(sent) == grey).all()


def test_fractions_are_told_and_what_shows_through_stays(tmp_path: Path) -> None:
    Image.new("F", (8, 8), 0.5).save(tmp_path / "f.tif")
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "la.tif")
    (tmp_path / "set.csv").write_text("path,label\nf.tif,scan\nla.tif,scan\n")
    source = open_source(str(tmp_path / "set.csv"), tmp_path)
    with pytest.raises(Unfit, match=r"f\.tif has fractions for pixels"):
        source.image(0)
    assert Image.open(io.BytesIO(source.load(1))).getpixel((0, 0)) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (support.picture(), None),
        (support.picture(kind="JPEG"), None),
        (support.flat_png(8_000), None),  # more pixels than a server takes by default; another may take more
        (support.picture()[:-200], "0.png is a damaged or truncated PNG file"),
        (support.picture(kind="JPEG")[:400], "0.png is a damaged or truncated JPEG file"),
        (support.bare_jpeg((7000, 7000)), "0.png is a JPEG file of fewer bytes than its pixels take"),
        (support.many_scans(40, 33), "0.png is a JPEG file of more than 32 scans"),
        (support.picture(kind="BMP")[:100], "0.png is no image that can be read"),
        (b"", "0.png is empty"),
    ],
    ids=["png", "jpeg", "large", "cut png", "cut jpeg", "bare jpeg", "33 scans", "cut bmp", "empty"],
)
def test_a_whole_image_is_one_that_servers_can_decode(tmp_path: Path, image: bytes, told: str | None) -> None:
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "0.png").write_bytes(image)
    source = whole(open_source(str(tmp_path), NOWHERE))
    if told is None:
        assert source.image(0) == image
    else:
        with pytest.raises(Unfit, match=told):
            source.image(0)


def test_what_is_missing_is_no_damaged_image(tmp_path: Path) -> None:
    """Its disk may be away, and one would not like to teach the rest alone."""
    (tmp_path / "list.csv").write_text("path,label\ngone.png,ant\n")
    with pytest.raises(FileNotFoundError):
        whole(open_source(str(tmp_path / "list.csv"), NOWHERE)).image(0)


@pytest.mark.parametrize("kind", ["AVIF", "TIFF"])
def test_what_a_camera_turned_is_sent_upright(tmp_path: Path, kind: str) -> None:
    """Its orientation would be lost with its format."""
    stored = Image.fromarray(np.full((16, 32, 3), (0, 0, 255), dtype=np.uint8))
    stored.paste((255, 0, 0), (0, 0, 16, 16))
    orientation = Image.Exif()
    orientation[ExifTags.Base.Orientation] = 6  # to be turned clockwise, so that its left is up
    stored.save(tmp_path / "1", kind, exif=orientation)
    (tmp_path / "list.csv").write_text("path,label\n1,up\n")
    source = open_source(str(tmp_path / "list.csv"), NOWHERE)
    sent = Image.open(io.BytesIO(source.load(0))).convert("RGB")
    assert sent.size == (16, 32)
    red, _, blue = sent.getpixel((8, 4))  # type: ignore[misc]  # of an RGB image
    assert red > 200 > 50 > blue
