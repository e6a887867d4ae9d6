"""Kinds of images that are no photographs: of each, its classes and how one image of a class is drawn.

Place, size, turn, colour, contrast and noise differ from image to image; what is told of a class is what stays.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.kinds.drawing import (
    COLUMNS,
    ROWS,
    SIDE,
    Draw,
    Field,
    Point,
    Random,
    box,
    colour,
    corners,
    ground,
    noise,
    picture,
    tinted,
)


def grating(frequency: float, random: Random) -> Field:
    turn, shift = random.uniform(0, math.pi, 2)
    along = COLUMNS * math.cos(turn) + ROWS * math.sin(turn)
    return np.sin(2 * math.pi * frequency * random.uniform(0.85, 1.15) * along + shift)


def checks(random: Random) -> Field:
    size, right, down = random.integers(8, 14), *random.integers(0, 14, 2)
    return ((COLUMNS + right) // size + (ROWS + down) // size) % 2


def grid(random: Random) -> Field:
    size, right, down = random.integers(9, 14), *random.integers(0, 14, 2)
    return 1.0 * (np.minimum((COLUMNS + right) % size, (ROWS + down) % size) < 2)


def dots(random: Random) -> Field:
    spots = random.uniform(0, SIDE, (40, 2))
    near = [np.hypot(COLUMNS - x, ROWS - y) for x, y in spots]
    return 1.0 * (np.min(near, axis=0) < random.uniform(3, 4.5))


def wood(random: Random) -> Field:
    return np.sin(0.2 * random.uniform(0.8, 1.2) * COLUMNS + 2.5 * noise(random, 1.8))


def rings(random: Random) -> Field:
    x, y = random.normal(SIDE / 2, 20, 2).tolist()
    return np.sin(0.4 * np.hypot(COLUMNS - x, ROWS - y) + 1.2 * noise(random, 1.8))


def veins(random: Random) -> Field:
    return 1.0 * (np.abs(noise(random, 2.0)) < 0.12)


FIELDS: Mapping[str, Callable[[Random], Field]] = {
    "wide stripes": partial(grating, 0.05),
    "stripes": partial(grating, 0.1),
    "narrow stripes": partial(grating, 0.18),
    "hairlines": partial(grating, 0.3),
    "sand": partial(noise, coarse=0.3),
    "grain": partial(noise, coarse=0.9),
    "stucco": partial(noise, coarse=1.5),
    "clouds": partial(noise, coarse=2.3),
    "brushed along": partial(noise, coarse=1.3, stretch=4),
    "brushed across": partial(noise, coarse=1.3, stretch=4, turn=math.pi / 2),
    "checks": checks,
    "grid": grid,
    "dots": dots,
    "wood": wood,
    "rings": rings,
    "veins": veins,
}


def texture(field: Callable[[Random], Field], random: Random) -> Image.Image:
    return tinted(random, field(random))


def sign(points: Callable[[Point, float, float], list[Point]], filled: bool, random: Random) -> Image.Image:
    """A shape of given corners, filled or as an outline, anywhere on any ground."""
    image, centre, radius = ground(random), tuple(random.uniform(30, 66, 2)), random.uniform(14, 30)
    shape = points(centre, radius, random.normal(0, 0.2))
    ink, pen = colour(random), ImageDraw.Draw(image)
    if filled:
        pen.polygon(shape, fill=ink)
    else:
        pen.line([*shape, *shape[:2]], fill=ink, width=int(random.integers(3, 6)), joint="curve")
    return image


def polygon(count: int, inner: float = 1.0, turned: float = 0.0) -> Callable[..., list[Point]]:
    return lambda centre, radius, turn: corners(count, centre, radius, turn + turned, inner)


SHAPES = {
    "circle": polygon(40),
    "square": polygon(4, turned=math.pi / 4),
    "diamond": polygon(4),
    "triangle": polygon(3),
    "triangle on its head": polygon(3, turned=math.pi),
    "hexagon": polygon(6),
    "star": polygon(5, 0.45),
    "star of eight": polygon(8, 0.6),
    "cross": polygon(4, 0.3),
    "slanting cross": polygon(4, 0.3, math.pi / 4),
}


def letter(character: str, random: Random) -> Image.Image:
    image, mask = ground(random, 120), Image.new("L", (SIDE, SIDE))
    font = ImageFont.load_default(random.uniform(40, 70))
    place = tuple(random.normal(SIDE / 2, 6, 2))
    ImageDraw.Draw(mask).text(
        place, character, fill=255, font=font, anchor="mm", stroke_width=int(random.integers(0, 4))
    )
    slant, lean = random.normal(0, 0.15, 2)
    about = (1, slant, -slant * SIDE / 2, lean, 1, -lean * SIDE / 2)
    mask = mask.transform(mask.size, Image.Transform.AFFINE, about, Image.Resampling.BILINEAR)
    image.paste(Image.new("RGB", image.size, colour(random, 0, 90)), mask=mask)
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2)))


def scratch(pen: ImageDraw.ImageDraw, x: float, y: float, random: Random) -> None:
    turn, length = random.uniform(0, math.pi), random.uniform(10, 25)
    right, down = length * math.cos(turn), length * math.sin(turn)
    pen.line([x - right, y - down, x + right, y + down], fill=int(random.uniform(200, 255)))


def pit(pen: ImageDraw.ImageDraw, x: float, y: float, random: Random) -> None:
    pen.ellipse(box((x, y), random.uniform(3, 7)), fill=int(random.uniform(20, 80)))


def crack(pen: ImageDraw.ImageDraw, x: float, y: float, random: Random) -> None:
    right, down = np.cumsum(random.normal(2, 4, (2, 10)), axis=1).tolist()
    turns = [(x + across, y + along) for across, along in zip(right, down, strict=True)]
    pen.line(turns, fill=int(random.uniform(20, 80)))


def rust(pen: ImageDraw.ImageDraw, x: float, y: float, random: Random) -> None:
    for spot in random.normal((x, y), 12, (25, 2)):
        pen.ellipse(box(tuple(spot), random.uniform(0.6, 1.6)), fill=int(random.uniform(20, 80)))


def inclusion(pen: ImageDraw.ImageDraw, x: float, y: float, random: Random) -> None:
    pen.rectangle(box((x, y), random.uniform(10, 20), 2), fill=int(random.uniform(20, 80)))


def sound(pen: ImageDraw.ImageDraw, x: float, y: float, random: Random) -> None:
    """No fault at all."""


def surface(
    fault: Callable[[ImageDraw.ImageDraw, float, float, Random], None], random: Random
) -> Image.Image:
    """Brushed metal with a small fault somewhere."""
    brushed = 12 * noise(random, 1.0, 6.0, random.normal(0, 0.1)) + random.normal(0, 5, (SIDE, SIDE))
    image = picture(random.normal(150, 15) + brushed).convert("L")
    x, y = random.uniform(15, SIDE - 15, 2).tolist()
    fault(ImageDraw.Draw(image), x, y, random)
    return image.filter(ImageFilter.GaussianBlur(0.6)).convert("RGB")


def cells(count: int, radius: float, longer: float, random: Random) -> Image.Image:
    """Stained cells, of so many a picture and of such a size, `longer` than wide."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(random.normal((225, 200, 215), 8).astype(int)))
    pen = ImageDraw.Draw(image)
    for _ in range(max(1, round(random.normal(count, 1)))):
        size = radius * random.uniform(0.85, 1.15)
        stain = tuple(random.normal((120, 60, 140), 15).astype(int))
        pen.ellipse(box(tuple(random.uniform(8, SIDE - 8, 2)), size * longer, size / longer), fill=stain)
    return picture(np.asarray(image) + random.normal(0, 6, (SIDE, SIDE, 3)))


CALLS: Mapping[str, Callable[[Field, Random], Field]] = {
    "steady": lambda time, _: 0 * time,
    "rising": lambda time, _: -0.3 * time,
    "falling": lambda time, _: 0.3 * time,
    "bending": lambda time, _: 0.004 * time**2,
    "wavering": lambda time, random: 8 * np.sin(0.15 * time + random.uniform(0, 6)),
    "trilling": lambda time, random: 8 * np.sin(0.45 * time + random.uniform(0, 6)),
    "two tones": lambda time, random: 12 * np.sign(np.sin(0.12 * time + random.uniform(0, 6))),
    "hoarse": lambda time, random: 4 * random.normal(size=time.shape),
}


def spectrogram(call: Callable[[Field, Random], Field], random: Random) -> Image.Image:
    """Three voices of one call in noise."""
    loud, time = random.normal(0.3, 0.25, (SIDE, SIDE)), COLUMNS[0]
    for _ in range(3):
        pitch = (random.uniform(20, 75) + call(time, random)).astype(int) % SIDE
        loud[pitch, COLUMNS[0].astype(int)] += 1.2
        loud[(pitch + 1) % SIDE, COLUMNS[0].astype(int)] += 0.7
    return picture(255 * loud[..., None] * (0.35, 0.55, 0.4) + (60, 0, 90))


KINDS: Mapping[str, Mapping[str, Draw]] = {
    "textures": {name: partial(texture, field) for name, field in FIELDS.items()},
    "faults in a surface": {
        fault.__name__: partial(surface, fault) for fault in (sound, scratch, pit, crack, rust, inclusion)
    },
    "letters": {character: partial(letter, character) for character in string.ascii_uppercase},
    "signs": {
        f"{name}, {'filled' if filled else 'outline'}": partial(sign, points, filled)
        for name, points in SHAPES.items()
        for filled in (True, False)
    },
    "cells": {
        "few": partial(cells, 3, 9, 1),
        "some": partial(cells, 8, 7, 1),
        "many": partial(cells, 16, 5, 1),
        "small": partial(cells, 8, 4, 1),
        "long": partial(cells, 8, 9, 1.7),
        "large": partial(cells, 5, 14, 1),
    },
    "spectrograms": {name: partial(spectrogram, call) for name, call in CALLS.items()},
}
"""Each kind's classes, and what draws one image of them."""
