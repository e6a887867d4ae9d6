from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from model.preprocess import UndecodableImage, decode, decode_plain_jpeg, rgb_pixels, to_pixels, to_rgb

LIMIT = 1_000_000


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    across = np.linspace(0, 255, width, dtype=np.uint8)
    return Image.fromarray(np.broadcast_to(across[None, :, None], (height, width, 3)).copy())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(64, 64), (200, 64), (64, 200), (1, 1), (1, 900), (7, 3)])
def test_every_format_and_shape_becomes_a_square(kind: str, size: tuple[int, int]) -> None:
    pixels = decode(encoded(gradient(*size), kind), 32, LIMIT)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    white = {"I;16": 65535, "CMYK": (0, 0, 0, 0)}.get(mode, "white")
    image = Image.new(mode, (20, 10), white)
    data = encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    assert decode(data, 8, LIMIT).min() >= 254


@pytest.mark.parametrize("size", [(97, 97), (150, 91), (40, 300), (16, 16)])
def test_pixels_are_pillow_s_within_one(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    square = cut.resize((64, 64), Image.Resampling.BICUBIC)
    expected = np.asarray(square).transpose(2, 0, 1).astype(int)
    assert np.abs(to_pixels(image, 64).astype(int) - expected).max() <= 1


def test_transparency_is_laid_on_white() -> None:
    assert decode(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG"), 8, LIMIT).min() == 255


@pytest.mark.parametrize(("mode", "black"), [("RGB", (0, 0, 0)), ("L", 0), ("P", 0)])
def test_one_colour_that_is_not_to_be_seen_becomes_white(mode: str, black: int | tuple[int, ...]) -> None:
    image = Image.new(mode, (8, 8), black)
    assert decode(encoded(image, "PNG", transparency=black), 8, LIMIT).min() == 255


def test_a_photo_taken_sideways_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90 degrees clockwise to view
    for kind in ("PNG", "JPEG"):
        turned = decode(encoded(gradient(64, 64), kind, exif=exif.tobytes()), 32, LIMIT)
        np.testing.assert_allclose(turned[0], to_pixels(gradient(64, 64).rotate(-90), 32)[0], atol=2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(orientation: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "PNG", exif=exif.tobytes())
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, 32, LIMIT), to_pixels(expected, 32))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_metadata_that_are_damaged_are_no_damaged_image(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    odd = exif.tobytes().replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02")  # a resolution in letters
    upright, turned = (to_pixels(image, 32) for image in (gradient(64, 64), gradient(64, 64).rotate(-90)))
    for metadata, expected in ((odd, turned), (b"Exif\0\0no such thing", upright)):
        pixels = decode(encoded(gradient(64, 64), kind, exif=metadata), 32, LIMIT)
        np.testing.assert_allclose(pixels[0], expected[0], atol=3)


@pytest.mark.parametrize("size", [(64, 64), (200, 64), (31, 127), (1, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 20}])
def test_a_plain_jpeg_s_pixels_are_pillow_s(
    size: tuple[int, int], mode: str, options: dict[str, int]
) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    data = encoded(image, "JPEG", **options)
    plain = decode_plain_jpeg(data, 32, LIMIT)
    assert plain is not None
    np.testing.assert_array_equal(plain, Image.open(io.BytesIO(data)).convert("RGB"))


def test_what_is_no_plain_jpeg_is_left_to_pillow() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for data, limit in (
        (encoded(gradient(64, 64), "JPEG", exif=exif.tobytes()), LIMIT),
        (encoded(gradient(128, 128), "JPEG"), LIMIT),  # large enough to be scaled
        (encoded(Image.new("CMYK", (20, 10)), "JPEG"), LIMIT),
        (encoded(gradient(64, 64), "JPEG"), 64 * 64 - 1),
        (encoded(gradient(64, 64), "JPEG")[:-9], LIMIT),
        (encoded(gradient(64, 64), "PNG"), LIMIT),
    ):
        assert decode_plain_jpeg(data, 32, limit) is None


def test_scaled_decoding_of_a_large_jpeg_changes_little() -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((1024, 1024), 3)
    scaled = decode(encoded(smooth, "JPEG", quality=95), 64, 2_000_000).astype(int)
    assert np.abs(scaled - to_pixels(smooth, 64).astype(int)).mean() < 2


def test_a_larger_image_than_allowed_is_refused_before_it_is_decompressed() -> None:
    data = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(UndecodableImage, match="20000 x 20000"):
        decode(data, 32, LIMIT)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_image_is_refused(kind: str) -> None:
    rng = np.random.default_rng(0)
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    with pytest.raises(UndecodableImage):
        decode(data[: len(data) // 2], 32, LIMIT)


def test_other_formats_and_no_image_at_all_are_refused() -> None:
    for data in (
        b"",
        b"hello",
        encoded(gradient(8, 8), "GIF"),
        encoded(gradient(8, 8), "TIFF"),
        b"\x89PNG\r\n\x1a\n",
    ):
        with pytest.raises(UndecodableImage):
            decode(data, 32, LIMIT)


def test_whatever_a_decoder_raises_the_image_is_to_blame() -> None:
    png = encoded(gradient(8, 8), "PNG")
    end = png.rindex(b"IEND") - 4
    empty_profile = struct.pack(">I", 0) + b"iCCP" + struct.pack(">I", zlib.crc32(b"iCCP"))
    with pytest.raises(UndecodableImage, match="cannot be decoded"):
        decode(png[:end] + empty_profile + png[end:], 32, LIMIT)


def test_a_jpeg_of_rare_subsampling_is_decoded_all_the_same() -> None:
    data = bytearray(encoded(gradient(32, 64), "JPEG", subsampling="4:2:0"))
    data[data.index(b"\xff\xc0") + 11] = 0x14  # luma one by four, as many blocks as two by two: 4:4:1
    assert decode_plain_jpeg(bytes(data), 32, LIMIT) is None
    assert decode(bytes(data), 32, LIMIT).shape == (3, 32, 32)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_an_image_is_converted_in_bands_as_it_would_be_whole(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 30, 4), dtype=np.uint8)
    image = (
        Image.fromarray(noise[..., 0].astype(np.uint16) * 200)
        if mode == "I;16"
        else (Image.fromarray(noise, "RGBA").convert("L" if mode == "P" else mode))
    )
    if mode == "P":
        image = image.convert("P")
    if mode in ("L", "P"):
        image.info["transparency"] = 7
    np.testing.assert_array_equal(rgb_pixels(image), np.asarray(to_rgb(image)))
