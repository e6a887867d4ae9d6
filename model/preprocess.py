"""From a decoded image to the pixels a backbone takes; the same for learning and serving."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_pixels(image: Image.Image, px: int) -> NDArray[np.uint8]:
    """RGB pixels [3, px, px]: the largest centred square, resized (bicubic).

    Transparency is laid on white, 16-bit greys are scaled to 8 bits.
    """
    image = to_rgb(image)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    # Cropping inside the resize keeps a 1 x 20,000 strip from growing to px x 20,000 px first.
    square = image.resize((px, px), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(square, dtype=np.uint8).transpose(2, 0, 1))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode Pillow decodes from JPEG, PNG or WebP, as RGB."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image, dtype=np.float32) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
