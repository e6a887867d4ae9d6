"""Graphics that the bundled backbone is trained on: each can be seen, and the same figure comes twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.kinds.drawing import SIDE
from benchmarks.pretrain.graphics import CONTRAST, figure, figure_views, graphics, ground, inked


def test_graphics_are_pictures_that_a_seed_draws_again() -> None:
    drawn = graphics(6, seed=3)
    assert drawn.shape == (6, 3, SIDE, SIDE)
    assert drawn.dtype == torch.uint8
    assert torch.equal(drawn, graphics(6, seed=3))
    assert not torch.equal(drawn, graphics(6, seed=4))
    assert all(len(picture.flatten(1).unique(dim=1)[0]) > 10 for picture in drawn)


@pytest.mark.parametrize("seed", range(40))
def test_a_figure_is_seen_wherever_it_is_drawn(seed: int) -> None:
    random = np.random.default_rng(seed)
    one = figure(random)
    shares = [np.mean(np.asarray(one(random)) > 127) for _ in range(20)]
    assert 0 < min(shares) <= max(shares) < 0.7
    assert len(set(shares)) > 1


def test_ink_differs_from_what_is_there() -> None:
    random = np.random.default_rng(0)
    whole = Image.new("L", (SIDE, SIDE), 255)
    for _ in range(50):
        under = ground(random)
        differs = np.abs(
            np.asarray(inked(random, under, whole), float) - np.asarray(under, float).mean((0, 1))
        )
        assert differs.max() >= CONTRAST - 1


def test_figures_are_shown_one_after_the_other_and_then_again_otherwise() -> None:
    torch.manual_seed(0)
    images, figures = figure_views(5, 3, 64)
    assert images.shape == (15, 3, 64, 64)
    assert 0 <= images.min() < images.max() <= 1
    assert figures.tolist() == [*range(5)] * 3
    assert not torch.allclose(images[:5], images[5:10], atol=0.1)
    assert not torch.allclose(images, figure_views(5, 3, 64)[0], atol=0.1), "each step shows other figures"
