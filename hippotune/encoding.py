"""Images as servers take them: formats that they do not read are written as PNG, and what is no image is told."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from hippotune.defaults import DEFAULTS
from hippotune.image_files import UNKNOWN, media_type
from hippotune.packing import Source, Unfit

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

LEAST_PX = 32
"""Side that images are decoded to where nobody looks at them: a large JPEG is decoded at an eighth for it."""


def accepted(image: bytes | Path | None) -> bytes:
    """An image's bytes, as PNG where servers would not take its format. Raises Unfit for what is none."""
    if image is None:
        raise Unfit("has no image")
    if isinstance(image, Path):
        image = image.read_bytes()
    if not image:
        raise Unfit("is empty")
    if media_type(image) != UNKNOWN:
        return image
    from PIL import Image

    with judged():
        return png(Image.open(io.BytesIO(image)))


def png(picture: Picture) -> bytes:
    """A picture encoded as PNG, upright and in a mode that servers take.

    Raises Unfit for fractions, which name no white.
    """
    import numpy as np
    from PIL import Image, ImageOps

    picture.load()  # which turns a TIFF already
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise Unfit("has fractions for pixels, and nothing says which is white; save it in 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16 bits stay 16: Pillow would make all but the darkest white
        picture = Image.fromarray(np.asarray(picture).clip(0, 0xFFFF).astype(np.uint16))
    elif picture.mode not in ("L", "RGB", "RGBA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@contextmanager
def judged() -> Iterator[None]:
    """What comes of decoding an image, as Unfit. Raises MemoryError and errors of the disk, of which none is guilty."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except (MemoryError, Unfit):
        raise
    except UnidentifiedImageError:
        raise Unfit("is no image that can be read") from None
    except Exception as error:  # decoders raise nearly anything on damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Unfit(f"is no image that can be read: {error}") from None


def whole(source: Source) -> Source:
    """The same source, but `load` raises Unfit for damaged images too: each is decoded, by what servers decode with.

    What only has more pixels than they usually take is left to them.
    """
    from service.http.problems import Problem
    from service.uploads.decode import decode

    def load(row: int) -> bytes:
        image = source.load(row)
        try:
            decode(image, LEAST_PX, int(DEFAULTS["max_pixels"]))
        except Problem as problem:
            if problem.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise Unfit(str(problem.errors[0].value)) from None
        return image

    return replace(source, load=load)
