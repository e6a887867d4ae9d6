"""Letters and signs of the fonts that come with matplotlib, scanned as drawings are, many times each.

How scans of one glyph differ, over fonts and over bends, is how pictures of one class differ in handwriting and
print: the whitening learns from it what to overlook. No digit is among them, so that scikit-learn's digits stay
classes that were never seen.
"""

import string
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.pretrain.drawings import scan

GLYPHS = string.ascii_letters + "!#%&()*+/=?@[]"
"""What every font below has under its usual code."""
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta", "STIXGeneralItalic"),
    *("cmr10", "cmss10", "cmti10", "cmtt10"),
)
"""Text fonts of matplotlib: DejaVu, STIX, Computer Modern."""
SIDES = (8, 12, 16, 32)
"""Pixels along a side before enlarging, each as often."""
FINE = 64
"""Side at which a glyph is drawn before it is bent."""
MARGIN = 6
"""Black pixels between a glyph's longer side and the edge."""


def glyph_scans(px: int, repeats: int = 4) -> tuple[Tensor, Tensor]:
    """Every glyph in every font, scanned `repeats` times: float images [N, 3, px, px] in 0..1, and the glyph's index in
    `GLYPHS` of each, int64 [N]. A random quarter of all is scanned at each of `SIDES`.
    """
    drawn = torch.stack([draw_glyph(glyph, font) for glyph in GLYPHS for font in FONTS])  # [G F, 1, s, s]
    groups = torch.arange(len(GLYPHS)).repeat_interleave(len(FONTS)).repeat(repeats)
    rows = torch.randperm(len(groups))
    parts = torch.tensor_split(rows, len(SIDES))
    scans = [scan(drawn[part % len(drawn)], side, px) for part, side in zip(parts, SIDES, strict=True)]
    return torch.cat(scans), groups[rows]


def draw_glyph(glyph: str, font: str) -> Tensor:
    """One character, white on black, centred, as large as fits: float [1, FINE, FINE] in 0..1."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    face = ImageFont.truetype(str(path), 2 * FINE)
    sheet = Image.new("L", (4 * FINE, 4 * FINE))
    ImageDraw.Draw(sheet).text((FINE, FINE), glyph, fill=255, font=face)
    ink = sheet.crop(sheet.getbbox())
    scale = (FINE - 2 * MARGIN) / max(ink.size)
    ink = ink.resize(
        (max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.BICUBIC
    )
    picture = Image.new("L", (FINE, FINE))
    picture.paste(ink, ((FINE - ink.width) // 2, (FINE - ink.height) // 2))
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).unsqueeze(0)
