"""From bytes a client sent to pixels a backbone takes, with nothing decoded before its header was checked.

Only JPEG, PNG and WebP are opened, each by its own decoder, picked by the file's first bytes.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.preprocess import to_pixels
from service.problems import FieldError, Problem, refused

ALLOWED = "be a JPEG, PNG or WebP image"
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")

# A large JPEG is decoded at a half, quarter or eighth of its size, but never below this many times the side
# the backbone takes, so that the antialiasing is the resize's own.
DRAFT_MARGIN = 2


def decode(data: bytes, px: int, max_pixels: int, field: str = "body") -> NDArray[np.uint8]:
    """Encoded image -> uint8 [3, px, px].

    Raises Problem, naming `field`: 415 for other formats, 413 past `max_pixels`, 422 for damaged files.
    """
    kind = image_format(data)
    if kind is None:
        if not data:
            raise Problem(422, f"{field} is empty; it must {ALLOWED}", FieldError(field, None, ALLOWED))
        detail = f"{field} is in none of the formats known here; it must {ALLOWED}"
        raise Problem(415, detail, FieldError(field, None, ALLOWED))
    if kind == "WEBP":  # Pillow allocates the canvas of a WebP while it opens the file
        check_size(webp_size(data), max_pixels, field)
    try:
        image = Image.open(io.BytesIO(data), formats=(kind,))
        check_size(image.size, max_pixels, field)
        image.draft(None, (DRAFT_MARGIN * px, DRAFT_MARGIN * px))
        return to_pixels(image, px)
    except Problem:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(None, max_pixels, field) from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        detail = f"{field} is a damaged or truncated {kind} file; it must {ALLOWED}"
        raise Problem(422, detail, FieldError(field, None, ALLOWED)) from error


def image_format(data: bytes) -> str | None:
    """Pillow's name of the format by the first bytes, None for any other."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the header (RFC 9649); (0, 0) when there is none, which decoders reject."""
    chunk, head = data[12:16], data[20:30].ljust(10, b"\0")
    if chunk == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", head[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def check_size(size: tuple[int, int], max_pixels: int, field: str) -> None:
    """Raise Problem 413 when width x height is more than max_pixels."""
    if size[0] * size[1] > max_pixels:
        raise too_large(size, max_pixels, field)


def too_large(size: tuple[int, int] | None, max_pixels: int, field: str) -> Problem:
    shown = f"{size[0]} x {size[1]} pixels" if size else "far more pixels"
    return refused(field, shown, f"have at most {max_pixels} pixels", 413)
