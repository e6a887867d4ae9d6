"""From bytes a client sent to pixels: what the file's first bytes tell is checked before any decoder sees them."""

from __future__ import annotations

import re
import struct

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from model import preprocess
from service.http.problems import unfit

MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")
ALLOWED = "be a JPEG, PNG or WebP image"
JPEG_PIXELS_A_BYTE = 512
"""Most that a JPEG can hold: Huffman's code spends at least a bit on each block of 8 x 8 pixels."""
MAX_SCANS = 32
"""Most of a JPEG. Each goes over every pixel again, whether or not it brings any; encoders write about ten."""
SCAN, END = b"\xff\xda", b"\xff\xd9"
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""What ends a scan's data, in which \xff is followed by zero or by the number of a restart."""

STRANGERS = {
    kind: re.compile(begins, re.DOTALL)
    for kind, begins in {
        "a GIF image": rb"GIF8[79]a",
        "a BMP image": rb"BM.{4}\0{4}",
        "a TIFF image": rb"II[*+]\0|MM\0[*+]",
        "an AVIF image": rb".{4}ftyp(avi[fs]|m[is]f1.{4}(.{4}){0,7}avi[fs])",
        "a HEIC image": rb".{4}ftyp(he[iv][cxms]|m[is]f1)",
        "a JPEG 2000 image": rb"\0{3}\x0cjP  |\xff\x4f\xff\x51",
        "a JPEG XL image": rb"\0{3}\x0cJXL |\xff\x0a",
        "an ICO image": rb"\x00\x00\x01\x00[^\x00]",
        "a video": rb".{4}ftyp",
        "a PDF document": rb"%PDF-",
        "an image in base64": rb"(data:image/[a-z]+;base64,)?(/9j/|iVBORw0KGgo|UklGR)",
        "an SVG image": rb"\s*(<\?xml[^>]{0,200}>\s*)?<svg\b",
        "a web page": rb"(?i:\s*<(!doctype )?html\b)",
        "a zip archive": rb"PK\x03\x04",
        "compressed with gzip": rb"\x1f\x8b",
    }.items()
}
"""How files begin that people take for images, or that are some, and are not accepted. The first that fits counts."""

AS_TEXT = re.compile(
    rb"\x89PNG(?!\r\n\x1a\n)|\xc2\x89PNG|\xc3\xbf\xc3\x98\xc3\xbf|\xef\xbf\xbd(PNG|\xef\xbf\xbd\xef\xbf\xbd)"
    rb"|(\xff\xd8\xff|RIFF)[^\0\r\n]*+\Z"
)
"""An image that something on its way took for text: its line breaks are others, it was encoded in UTF-8, or it has
neither zeros nor line breaks, as curl's -d takes them out."""
BEGINNING = 1024
"""Bytes that such patterns look at: enough to tell, and no body of white space is searched to its end."""


def decode(data: bytes, px: int, max_pixels: int, field: str = "body") -> NDArray[np.uint8]:
    """Encoded image -> uint8 [3, px, px], as in learning.

    Raises Problem, naming `field`: 415 for other formats, 413 past `max_pixels`, 422 for damaged files. Raises
    MemoryError, of which no image is guilty.
    """
    kind = image_format(data)
    if not data:
        raise unfit(422, field, "is empty", ALLOWED)
    if AS_TEXT.match(data[:BEGINNING]):
        raise unfit(422, field, "was changed as text on its way", "come as it is; curl needs --data-binary")
    if kind is None:
        raise unfit(415, field, stranger(data), ALLOWED)
    width, height = webp_size(data) if kind == "WebP" else (0, 0)
    if width * height > max_pixels:  # Pillow allocates the canvas of a WebP already when it opens the file
        raise unfit(413, field, f"is {width} x {height} pixels", f"have at most {max_pixels} pixels")
    if kind == "JPEG" and len(data) * JPEG_PIXELS_A_BYTE < jpeg_pixels(data) <= max_pixels:
        # libjpeg makes up grey for what is missing before an end marker, and Pillow does not tell.
        raise unfit(422, field, "is a JPEG file of fewer bytes than its pixels take", ALLOWED)
    if kind == "JPEG" and most_scans(data) > MAX_SCANS and scans(data) > MAX_SCANS:
        raise unfit(422, field, f"is a JPEG file of more than {MAX_SCANS} scans", f"have at most {MAX_SCANS}")
    try:
        return preprocess.decode(data, px, max_pixels)
    except preprocess.TooManyPixels as error:
        raise unfit(413, field, "is too large", f"have at most {max_pixels} pixels") from error
    except preprocess.UndecodableImage as error:
        raise unfit(422, field, f"is a damaged or truncated {kind} file", ALLOWED) from error


def image_format(data: bytes) -> str | None:
    """The format by the first bytes, None for any that is not accepted."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return None


def stranger(data: bytes) -> str:
    """What is wrong with a file of no format that is accepted: which it is of, if its first bytes tell."""
    beginning = data[:BEGINNING]
    for kind, begins in STRANGERS.items():
        if begins.match(beginning):
            return f"is {kind}, which is not among the formats known here"
    return "is in none of the formats known here"


def jpeg_pixels(data: bytes) -> int:
    """How many its header announces; 0 where it cannot be read, which decoders judge."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):
        return 0
    return int(height) * int(width)


def most_scans(data: bytes) -> int:
    """No JPEG of these bytes has more scans: their mark cannot stand within one. Far cheaper than `scans`."""
    return data.count(SCAN)


def scans(data: bytes) -> int:
    """Those of a JPEG up to its end marker, which decoders read no further than: phones put a film behind it."""
    found, at = 0, 2
    while (marker := MARKER.search(data, at)) and marker[0] != END:
        found += marker[0] == SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return found


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
