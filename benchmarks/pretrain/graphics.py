"""Graphics, which photographs do not show: figures, strokes and letters of any colour on any ground, and textures.

The teacher is asked about `graphics` as it is about photographs. `figure_views` show one figure several times, in
other colours, places and sizes on other grounds. From pairs of them the student learns to tell it from others, as it
does drawings, and the whitening learns what to overlook.

Figures are irregular, and no digit is among them: the signs of `benchmarks.kinds` and scikit-learn's digits are never
drawn on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from rich.progress import track
from torch import Tensor

from benchmarks.kinds.drawing import COLUMNS, ROWS, SIDE, Field, Random, noise, picture, standard
from benchmarks.pretrain.glyphs import FONTS, GLYPHS, draw_glyph
from model.preprocess import to_pixels

Figure = Callable[[Random], Image.Image]
"""Draws itself, each time in another place, size and turn: a mask, grey, `SIDE` pixels along a side."""
Corners = NDArray[np.floating]
"""[n, 2], within a circle of radius one."""

CONTRAST = 60
"""Levels, of 255, by which ink differs from the ground in one channel at least."""


def graphics(count: int, seed: int) -> Tensor:
    """Pictures of one to three figures, of many small ones, or of a texture: uint8 [count, 3, SIDE, SIDE]."""
    random = np.random.default_rng(seed)
    kinds = (
        partial(scene, figures=(1, 3), radii=(14, 40)),
        partial(scene, figures=(8, 40), radii=(3, 12)),
        texture,
    )
    drawn = (kinds[random.choice(3, p=(0.5, 0.2, 0.3))](random) for _ in range(count))
    pictures = [to_pixels(image, SIDE) for image in track(drawn, total=count, description="graphics")]
    return torch.from_numpy(np.stack(pictures))


def figure_views(count: int, repeats: int, px: int) -> tuple[Tensor, Tensor]:
    """So many new figures, each shown `repeats` times: float images [N, 3, px, px] in 0..1, once all, then all again,
    and the number of the figure in each, int64 [N].
    """
    random = np.random.default_rng(int(torch.randint(2**31, ())))
    figures = [figure(random) for _ in range(count)]
    images = np.stack([to_pixels(shown(one, random), px) for _ in range(repeats) for one in figures])
    return torch.from_numpy(images) / 255, torch.arange(count).repeat(repeats)


def shown(one: Figure, random: Random) -> Image.Image:
    """A figure in some ink on some ground."""
    return developed(random, inked(random, ground(random), one(random)))


def scene(random: Random, figures: tuple[int, int], radii: tuple[float, float]) -> Image.Image:
    """So many figures of such radii; many are all alike, but for their size, place and turn."""
    image, number = ground(random), int(random.integers(*figures, endpoint=True))
    one = figure(random, radii)
    for _ in range(number):
        image = inked(random, image, one(random))
        one = one if number > 3 else figure(random, radii)
    return developed(random, image)


def figure(random: Random, radii: tuple[float, float] = (14, 40)) -> Figure:
    """A new one: an irregular polygon, star or blob, a stroke, or a letter of any font."""
    kind = random.choice(5, p=(0.2, 0.2, 0.2, 0.15, 0.25))
    if kind == 4:
        return partial(lettered, str(random.choice(list(GLYPHS))), radii)
    corners = (polygon, star, blob, stroke)[kind](random)
    return partial(outlined, corners, kind != 3, bool(random.random() < 0.5), radii)


def polygon(random: Random) -> Corners:
    """Three to seven corners, anywhere around the middle."""
    number = int(random.integers(3, 8))
    steps = random.dirichlet(np.full(number, 6.0))
    return around(2 * math.pi * np.cumsum(steps), random.uniform(0.45, 1, number))


def star(random: Random) -> Corners:
    """Three to eight points of unequal length."""
    number = int(random.integers(3, 9))
    radii = np.where(np.arange(2 * number) % 2, random.uniform(0.25, 0.8), random.uniform(0.7, 1, 2 * number))
    return around(math.pi / number * np.arange(2 * number) + random.uniform(0, math.pi), radii)


def blob(random: Random) -> Corners:
    """A closed curve of a few waves."""
    angles, waves = np.linspace(0, 2 * math.pi, 48, endpoint=False), np.arange(2, 6)
    sizes, shifts = random.normal(0, 0.35, 4) / (waves - 1), random.uniform(0, 2 * math.pi, 4)
    radii = 1 + (sizes * np.cos(angles[:, None] * waves + shifts)).sum(1)
    return around(angles, np.maximum(radii, 0.15) / radii.max())


def stroke(random: Random) -> Corners:
    """A line of some turns."""
    return random.uniform(-1, 1, (int(random.integers(2, 6)), 2))


def around(angles: Field, radii: Field) -> Corners:
    """Corners in polar coordinates."""
    return np.stack((radii * np.cos(angles), radii * np.sin(angles)), axis=1)


def outlined(
    corners: Corners, closed: bool, filled: bool, radii: tuple[float, float], random: Random
) -> Image.Image:
    """A mask of corners that are joined, or filled."""
    radius = random.uniform(*radii)
    placed = radius * corners @ bend(random) + random.uniform(
        min(radius, SIDE / 2), SIDE - min(radius, SIDE / 2), 2
    )
    points, mask = [tuple(point) for point in placed.tolist()], Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(mask)
    if closed and filled:
        pen.polygon(points, fill=255)
    else:
        width = max(1, round(radius * random.uniform(0.08, 0.25)))
        pen.line([*points, *points[:2]] if closed else points, fill=255, width=width, joint="curve")
    return mask


def lettered(glyph: str, radii: tuple[float, float], random: Random) -> Image.Image:
    """A mask of a letter in any font."""
    half, radius = SIDE / 2, random.uniform(*radii)
    about = np.linalg.inv(radius / half * bend(random).T)
    place = random.uniform(min(radius, half), SIDE - min(radius, half), 2)
    shift = half - about @ place
    frame = (*about[0].tolist(), float(shift[0]), *about[1].tolist(), float(shift[1]))
    return glyph_mask(glyph, str(random.choice(FONTS))).transform(
        (SIDE, SIDE), Image.Transform.AFFINE, frame, Image.Resampling.BILINEAR
    )


@cache
def glyph_mask(glyph: str, font: str) -> Image.Image:
    """As large as a picture."""
    return Image.fromarray((draw_glyph(glyph, font)[0].numpy() * 255).astype(np.uint8)).resize((SIDE, SIDE))


def bend(random: Random) -> NDArray[np.floating]:
    """A small turn, stretch and shear, [2, 2]."""
    turn, shear, stretch = random.normal(0, (0.15, 0.08, 0.08))
    turned = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return np.array([[math.exp(stretch), shear], [0, math.exp(-stretch)]]) @ turned


def ground(random: Random) -> Image.Image:
    """Of one colour, or changing from one to another: evenly, in clouds or in stripes."""
    kind, (one, other) = random.choice(4), random.uniform(0, 255, (2, 3))
    turn = random.uniform(0, 2 * math.pi)
    along = (COLUMNS * math.cos(turn) + ROWS * math.sin(turn)) / SIDE
    fields = (
        lambda: np.zeros((SIDE, SIDE)),
        lambda: along,
        lambda: 0.2 * noise(random, random.uniform(0.5, 2.2)),
        lambda: 0.3 * np.sin(2 * math.pi * random.uniform(2, 20) * along),
    )
    return picture(one + (other - one) * random.uniform(0.1, 0.8) * fields[kind]()[..., None])


def inked(random: Random, image: Image.Image, mask: Image.Image) -> Image.Image:
    """A picture with a figure on it, in a colour that differs from what is there."""
    under = np.asarray(image.resize((1, 1), Image.Resampling.BOX)).reshape(3)
    ink = random.integers(0, 256, 3)
    while np.abs(ink - under).max() < CONTRAST:
        ink = random.integers(0, 256, 3)
    return Image.composite(Image.new("RGB", image.size, tuple(ink.tolist())), image, mask)


def texture(random: Random) -> Image.Image:
    """Noise of any grain, waves, or both; as it is, or cut into two levels."""
    field = noise(random, random.uniform(0.2, 2.5), random.choice((0, 0, 4)), random.uniform(0, math.pi))
    for _ in range(int(random.integers(0, 3))):
        turn, waves = random.uniform(0, math.pi), random.uniform(2, 30)
        along = (COLUMNS * math.cos(turn) + ROWS * math.sin(turn)) / SIDE
        field = field * random.uniform(0, 0.6) + np.sin(2 * math.pi * waves * along + random.uniform(0, 6))
    if random.random() < 0.35:
        field = 1.0 * (np.abs(field) < random.uniform(0.05, 1)) if random.random() < 0.5 else np.sign(field)
    one, other = random.uniform(0, 255, (2, 3))
    share = 0.5 + 0.5 * random.uniform(0.1, 0.9) * standard(field)
    return developed(random, picture(one + (other - one) * share[..., None]))


def developed(random: Random, image: Image.Image) -> Image.Image:
    """As a camera would show it: a little out of focus, a little grainy."""
    soft = image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2)))
    return picture(np.asarray(soft) + random.normal(0, random.uniform(0, 8), (SIDE, SIDE, 3)))
