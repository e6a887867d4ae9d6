"""From an encoded image to the pixels a backbone takes; the same for learning and serving."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

# Pillow warns at 90 megapixels and refuses at 180; `decode` has its own limit and checks it first.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("JPEG", "PNG", "WEBP")
"""The decoders ever reached. Open formats beyond these are where an image library's vulnerabilities are."""
APP1 = b"\xff\xe1"
"""The marker of a JPEG's metadata, which may say that the picture is to be turned. Never part of compressed pixels."""

BAND = 256
"""Rows of an image that are converted at once."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each Orientation of EXIF but 1, which is upright."""


class UndecodableImage(ValueError):
    """The bytes are no whole image of an accepted format and size; the message says why."""


class TooManyPixels(UndecodableImage):
    """The header announces more pixels than are allowed."""


def decode(data: bytes, px: int, max_pixels: int) -> NDArray[np.uint8]:
    """Encoded JPEG, PNG or WebP to RGB pixels [3, px, px]. Raises UndecodableImage.

    The header is read, and `max_pixels` checked, before anything is decompressed. A JPEG at least four times the
    size wanted is decoded at a half, a quarter or an eighth, which its format makes cheap and leaves twice that size.
    """
    plain = decode_plain_jpeg(data, px, max_pixels)
    if plain is not None:
        return square_pixels(plain, px)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise TooManyPixels(
                    f"image is {width} x {height} pixels; at most {max_pixels} pixels are allowed"
                )
            image.draft("RGB", (2 * px, 2 * px))
            return to_pixels(upright(image), px)
    except UnidentifiedImageError as error:
        raise UndecodableImage("not a JPEG, PNG or WebP image") from error
    except (UndecodableImage, MemoryError):  # no fault of the image, if memory is short
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise UndecodableImage(f"image cannot be decoded: {error}") from error


def decode_plain_jpeg(data: bytes, px: int, max_pixels: int) -> NDArray[np.uint8] | None:
    """A JPEG as [height, width, 3] if it can be taken as it is: in colour or grey, whole, not to be turned or scaled.

    None for everything else, which is left to Pillow. Both stand on libjpeg-turbo and give the same pixels; this one is
    faster, and holds up Python's other threads less often.
    """
    if not data.startswith(b"\xff\xd8\xff") or APP1 in data:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        scaled = min(width, height) >= 4 * px
        if scaled or width * height > max_pixels or colours not in ("YCbCr", "Gray"):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
    except (ValueError, KeyError):  # Pillow knows more kinds, and says what is wrong with a damaged one
        return None
    return pixels


def upright(image: Image.Image) -> Image.Image:
    """Turned as its metadata say; not at all where they cannot be read, for the pixels may be sound all the same.

    Pillow's own `exif_transpose` also writes the metadata anew, and fails at what some cameras put there.
    """
    image.load()  # the metadata of a PNG may come last
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # nearly any, by what is damaged
        turn = None
    return image if turn is None else image.transpose(turn)


def to_pixels(image: Image.Image, px: int) -> NDArray[np.uint8]:
    """RGB pixels [3, px, px]: the largest centred square, resized (bicubic)."""
    return square_pixels(rgb_pixels(image), px)


def rgb_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """The whole as RGB, [height, width, 3], converted `BAND` rows at a time: each step of that makes another copy."""
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for top in range(0, image.height, BAND):
        band = image.crop((0, top, image.width, min(top + BAND, image.height)))
        pixels[top : top + BAND] = np.asarray(to_rgb(band))
    return pixels


def square_pixels(image: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """RGB [height, width, 3] -> [3, px, px]: the largest centred square, resized (bicubic).

    Resized by torch, for the speed of serving files; no value is further than 1 from Pillow's.
    """
    height, width, _ = image.shape
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = torch.from_numpy(image[top : top + side, left : left + side]).permute(2, 0, 1)  # [3, side, side]
    if side != px:
        square = F.interpolate(square[None], size=(px, px), mode="bicubic", antialias=True)[0]
    pixels: NDArray[np.uint8] = square.contiguous().numpy()
    return pixels


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode Pillow decodes from these formats, as RGB: transparency laid on white, 16-bit greys scaled to 8."""
    # A PNG in RGB may still name one colour that is not to be seen.
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image, dtype=np.float32) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
