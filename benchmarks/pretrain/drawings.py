"""Drawings made from photographs: coarse grey strokes and shapes, in pairs that differ as handwriting does.

They stand in for glyphs and icons, which the training images do not show. Both pictures of a pair are one drawing,
bent, moved and thickened differently; the student learns to tell pairs apart from other drawings of the same style.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pretrain.augment import crop_frames, sample
from benchmarks.pretrain.data import luma

LEVELS = 16
"""Grey levels above black, as coarse as a scanned 4-bit glyph."""
STYLES = ("strokes", "contours", "contours", "ink", "shapes", "grey")
"""Styles, each as often as it is named."""
SIDES = (8, 8, 8, 12, 16)
"""Pixels along a side before enlarging, each as often as it is named."""


def drawing_pairs(photos: Tensor, px: int) -> tuple[Tensor, Tensor]:
    """Two scans of a drawing of each photograph, all of one random style and resolution.

    photos: float RGB [B, 3, H, W] in 0..1 -> twice float [B, 3, px, px] in 0..1.
    """
    style, side = STYLES[_pick(len(STYLES))], SIDES[_pick(len(SIDES))]
    fine = luma(sample(photos, crop_frames(len(photos), 0.12, flip=True, largest=0.7), 4 * side))
    lines = _stretch(_outline(fine, style))
    if float(torch.rand(())) < 0.2:
        lines = 1 - lines
    return scan(lines, side, px), scan(lines, side, px)


def _outline(grey: Tensor, style: str) -> Tensor:
    """What one style keeps of grey pictures [B, 1, s, s]."""
    soft = F.avg_pool2d(grey, 7, stride=1, padding=3, count_include_pad=False)
    if style == "strokes":
        return _slope(soft)
    if style == "ink":  # darker than its surroundings
        return (soft - grey).clamp(min=0)
    if style == "grey":
        return grey
    wide = F.avg_pool2d(soft, 7, stride=1, padding=3, count_include_pad=False)
    shapes = ((wide - wide.mean(dim=(2, 3), keepdim=True)) * 40).sigmoid()
    return _slope(shapes) if style == "contours" else shapes


def _slope(maps: Tensor) -> Tensor:
    """Length of the gradient of maps [B, 1, s, s]."""
    dx, dy = maps.diff(dim=3, append=maps[..., -1:]), maps.diff(dim=2, append=maps[..., -1:, :])
    return (dx.square() + dy.square()).sqrt()


def scan(lines: Tensor, side: int, px: int) -> Tensor:
    """Bend, thicken for some, and read fine lines [B, 1, s, s] at `side` pixels: [B, 3, px, px]."""
    bent = sample(lines, _bends(len(lines)), lines.shape[-1])
    thick = torch.rand(len(lines), 1, 1, 1) < 0.5
    bent = torch.where(thick, F.max_pool2d(bent, 3, stride=1, padding=1), bent)
    coarse = (_stretch(F.adaptive_avg_pool2d(bent, side)) * LEVELS).round() / LEVELS
    large = F.interpolate(coarse, size=(px, px), mode="bicubic").clamp(0, 1)
    return (large * torch.empty(len(lines), 1, 1, 1).uniform_(0.75, 1)).expand(-1, 3, -1, -1)


def _bends(count: int) -> Tensor:
    """Random affine frames [B, 2, 3]: turned up to 15 degrees, sheared, scaled and moved by a tenth."""
    turn, shear = (torch.empty(count).uniform_(-0.26, 0.26) for _ in range(2))
    wide, high = (torch.empty(count).uniform_(-0.12, 0.12).exp() for _ in range(2))
    frames = torch.empty(count, 2, 3).uniform_(-0.15, 0.15)
    frames[:, 0, 0], frames[:, 0, 1] = wide * turn.cos(), shear - turn.sin()
    frames[:, 1, 0], frames[:, 1, 1] = turn.sin(), high * turn.cos()
    return frames


def _stretch(maps: Tensor) -> Tensor:
    """Each map [B, 1, s, s] from its least value, 0, to its greatest, 1."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-3)


def _pick(count: int) -> int:
    return int(torch.randint(count, ()))
