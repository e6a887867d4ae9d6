"""Small drawings, many of a kind and no two alike: what the page is taught and shown with."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

SIDE = 224
SCALE = 2
"""Drawn larger and shrunk, for smooth edges."""

Point = tuple[float, float]
INK = (44, 48, 58)


def drawing(kind: str, seed: int) -> bytes:
    """A PNG of one of `KINDS`."""
    random = Random(f"{kind}{seed}")
    paper = tuple(random.randint(225, 250) for _ in range(3))
    image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), paper)
    size = SIDE * SCALE * random.uniform(0.3, 0.38)
    centre = tuple(SIDE * SCALE * random.uniform(0.46, 0.54) for _ in range(2))
    KINDS[kind](ImageDraw.Draw(image), (centre[0], centre[1]), size, random)
    return png(image.rotate(random.uniform(-10, 10), Image.Resampling.BICUBIC, fillcolor=paper))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def draw_folders(root: Path, kinds: tuple[str, ...], each: int) -> Path:
    """An ImageFolder tree: `root/kind/number.png`."""
    for kind in kinds:
        (root / kind).mkdir(parents=True)
        for seed in range(each):
            (root / kind / f"{seed}.png").write_bytes(drawing(kind, seed))
    return root


def tint(random: Random, red: int, green: int, blue: int) -> tuple[int, int, int]:
    low, high = -22, 22
    return (
        red + random.randint(low, high),
        green + random.randint(low, high),
        blue + random.randint(low, high),
    )


def around(centre: Point, radii: list[float], turn: float = 0.0) -> list[Point]:
    """A polygon: one corner for each radius, at equal angles."""
    steps = [turn + 2 * math.pi * i / len(radii) for i in range(len(radii))]
    return [
        (centre[0] + radius * math.cos(step), centre[1] + radius * math.sin(step))
        for radius, step in zip(radii, steps, strict=True)
    ]


def disc(draw: ImageDraw.ImageDraw, centre: Point, radius: float, fill: tuple[int, int, int]) -> None:
    draw.ellipse([centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius], fill=fill)


def sun(draw: ImageDraw.ImageDraw, centre: Point, size: float, random: Random) -> None:
    rays = random.choice((9, 11, 12))
    draw.polygon(around(centre, [size, size * 0.62] * rays), fill=tint(random, 233, 190, 70))
    disc(draw, centre, size * 0.55, tint(random, 226, 150, 50))


def flower(draw: ImageDraw.ImageDraw, centre: Point, size: float, random: Random) -> None:
    draw.line(
        [centre, (centre[0], centre[1] + 1.5 * size)], fill=tint(random, 90, 150, 90), width=int(size * 0.14)
    )
    petals = random.choice((5, 6, 7))
    colour = tint(random, 205, 95, 140)
    for at in around(centre, [size * 0.55] * petals):
        disc(draw, at, size * 0.36, colour)
    disc(draw, centre, size * 0.3, tint(random, 228, 190, 90))


def leaf(draw: ImageDraw.ImageDraw, centre: Point, size: float, random: Random) -> None:
    bend = random.uniform(0.45, 0.6)
    side = [(-1 + 0.1 * i, bend * math.sin(math.pi * i / 20)) for i in range(21)]
    outline = side + [(x, -y) for x, y in reversed(side)]
    draw.polygon(
        [(centre[0] + size * x, centre[1] + size * y) for x, y in outline], fill=tint(random, 100, 160, 95)
    )
    tips = [(centre[0] - 1.3 * size, centre[1]), (centre[0] + 0.8 * size, centre[1])]
    draw.line(tips, fill=tint(random, 60, 110, 60), width=int(size * 0.06))


def fish(draw: ImageDraw.ImageDraw, centre: Point, size: float, random: Random) -> None:
    x, y = centre
    colour = tint(random, 95, 145, 200)
    draw.polygon(
        [(x + 0.5 * size, y), (x + 1.25 * size, y - 0.5 * size), (x + 1.25 * size, y + 0.5 * size)],
        fill=colour,
    )
    height = random.uniform(0.45, 0.6) * size
    draw.ellipse([x - size, y - height, x + 0.8 * size, y + height], fill=colour)
    disc(draw, (x - 0.6 * size, y - 0.12 * size), size * 0.09, INK)


def house(draw: ImageDraw.ImageDraw, centre: Point, size: float, random: Random) -> None:
    x, y = centre
    draw.rectangle(
        [x - 0.75 * size, y - 0.2 * size, x + 0.75 * size, y + 0.9 * size], fill=tint(random, 205, 175, 140)
    )
    draw.polygon(
        [(x - size, y - 0.2 * size), (x, y - size), (x + size, y - 0.2 * size)],
        fill=tint(random, 180, 85, 70),
    )
    draw.rectangle([x - 0.2 * size, y + 0.3 * size, x + 0.2 * size, y + 0.9 * size], fill=INK)


def mushroom(draw: ImageDraw.ImageDraw, centre: Point, size: float, random: Random) -> None:
    x, y = centre
    draw.rounded_rectangle(
        [x - 0.25 * size, y, x + 0.25 * size, y + size], size * 0.2, fill=tint(random, 228, 215, 195)
    )
    draw.pieslice([x - size, y - size, x + size, y + 0.9 * size], 180, 360, fill=tint(random, 200, 70, 65))
    for _ in range(random.randint(4, 7)):
        spot = (x + random.uniform(-0.55, 0.55) * size, y - random.uniform(0.15, 0.6) * size)
        disc(draw, spot, size * 0.1, (245, 240, 230))


def moon(draw: ImageDraw.ImageDraw, centre: Point, size: float, random: Random) -> None:
    width, height = draw.im.size
    night = tint(random, 60, 70, 115)
    draw.rectangle([0, 0, width, height], fill=night)
    disc(draw, centre, size, tint(random, 225, 220, 195))
    disc(draw, (centre[0] + random.uniform(0.4, 0.6) * size, centre[1] - 0.2 * size), size * 0.85, night)


def boat(draw: ImageDraw.ImageDraw, centre: Point, size: float, random: Random) -> None:
    x, y = centre
    sea = tint(random, 140, 185, 205)
    draw.rectangle([0, y + 0.6 * size, SIDE * SCALE, SIDE * SCALE], fill=sea)
    hull = [
        (x - size, y + 0.3 * size),
        (x + size, y + 0.3 * size),
        (x + 0.6 * size, y + 0.8 * size),
        (x - 0.6 * size, y + 0.8 * size),
    ]
    draw.polygon(hull, fill=tint(random, 130, 85, 65))
    draw.polygon(
        [(x, y - size), (x, y + 0.2 * size), (x + 0.8 * size, y + 0.2 * size)],
        fill=tint(random, 225, 120, 90),
    )


KINDS: dict[str, Callable[[ImageDraw.ImageDraw, Point, float, Random], None]] = {
    "sun": sun,
    "moon": moon,
    "flower": flower,
    "leaf": leaf,
    "mushroom": mushroom,
    "fish": fish,
    "house": house,
    "boat": boat,
}
