"""What the kinds are drawn with: noise of any grain, pictures of it, shapes in a place and a turn of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 96
"""Pixels of a picture's side."""

Random = np.random.Generator
Draw = Callable[[Random], Image.Image]
"""One picture of a class; another one each time."""
Field = NDArray[np.floating[Any]]
"""[SIDE, SIDE], one number a pixel; with three, [SIDE, SIDE, 3]."""
Point = tuple[float, float]
Colour = tuple[int, ...]

ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE].astype(float)


def noise(random: Random, coarse: float, stretch: float = 0.0, turn: float = 0.0) -> Field:
    """Of mean 0 and deviation 1, its spectrum falling with frequency to the power of `coarse`.

    stretch: how much longer than wide its grains are.  turn: their direction, in radians.
    """
    x, y = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE))
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    frequency = np.hypot(along * (1 + stretch), across) + 1e-3
    waves = random.normal(size=(2, SIDE, SIDE))
    return standard(np.fft.ifft2((waves[0] + 1j * waves[1]) / frequency**coarse).real)


def standard(field: Field) -> Field:
    """Of mean 0 and deviation 1."""
    return (field - field.mean()) / (field.std() + 1e-6)


def picture(levels: Field) -> Image.Image:
    """Levels of 0..255, [SIDE, SIDE] or [SIDE, SIDE, 3]; what lies beyond is cut off."""
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")


def tinted(random: Random, field: Field) -> Image.Image:
    """A field as the contrast of one colour on another."""
    contrast = 25 * random.uniform(0.5, 1.6) * (1 + 0.3 * random.normal(size=3))
    grainy = standard(field + random.normal(0, 0.3, field.shape))
    return picture(random.uniform(60, 190, 3) + grainy[..., None] * contrast)


def ground(random: Random, low: float = 0, high: float = 255) -> Image.Image:
    """Something to draw on, of a colour of its own and cloudy."""
    cloudy = random.uniform(5, 25) * noise(random, 1.8)
    return picture(random.uniform(low, high, 3) + cloudy[..., None])


def colour(random: Random, low: float = 0, high: float = 255) -> Colour:
    return tuple(random.integers(int(low), int(high), 3).tolist())


def corners(count: int, centre: Point, radius: float, turn: float, inner: float = 1.0) -> list[Point]:
    """Of a regular polygon; of a star with `inner` below 1, the share of its radius that lies between its points."""
    number = count if inner == 1 else 2 * count
    angles = [turn - math.pi / 2 + 2 * math.pi * corner / number for corner in range(number)]
    radii = [radius * (inner if corner % 2 and inner != 1 else 1) for corner in range(number)]
    return [
        (centre[0] + far * math.cos(angle), centre[1] + far * math.sin(angle))
        for far, angle in zip(radii, angles, strict=True)
    ]


def box(centre: Point, wide: float, high: float | None = None) -> tuple[float, float, float, float]:
    """Around a centre, so far to either side."""
    high = wide if high is None else high
    return centre[0] - wide, centre[1] - high, centre[0] + wide, centre[1] + high
