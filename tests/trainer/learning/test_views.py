"""Images as they might have been taken."""

from __future__ import annotations

import torch

from trainer.learning.views import LEAST_AREA, LIGHT, cropped, relit, varied


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_images_stay_images_and_each_is_varied_in_its_own_way() -> None:
    one = torch.randint(0, 256, (1, 3, 32, 32), generator=seeded()).to(torch.uint8)
    shown = varied(one.expand(4, -1, -1, -1), seeded())
    assert (shown.shape, shown.dtype) == ((4, 3, 32, 32), torch.uint8)
    assert len({image.numpy().tobytes() for image in shown}) == 4
    assert torch.equal(shown, varied(one.expand(4, -1, -1, -1), seeded()))
    assert not torch.equal(shown, varied(one.expand(4, -1, -1, -1), seeded(1)))


def test_a_crop_lies_within_its_image_and_shows_enough_of_it() -> None:
    px = 64
    across = torch.arange(px).float().expand(px, px)
    where = torch.stack([across, across.T, torch.zeros(px, px)]).expand(
        500, -1, -1, -1
    )  # each pixel: its x and y
    crops = cropped(where, seeded())
    low, high = crops.amin(dim=(2, 3)), crops.amax(dim=(2, 3))  # [500, 3]
    assert low.min() >= 0
    assert high.max() <= px - 1
    sides = (high - low)[:, :2] / (px - 1)
    area = sides.prod(dim=1)
    assert LEAST_AREA - 0.02 < area.min() < LEAST_AREA + 0.05
    assert area.max() > 0.9
    assert (crops[:, 0].diff(dim=2) >= -1e-3).all(), "nothing is mirrored"


def test_light_changes_within_bounds_and_a_plain_grey_stays_grey() -> None:
    grey = torch.full((200, 3, 8, 8), 100.0)
    lit = relit(grey, seeded())
    assert torch.equal(lit, lit[:, :1, :1, :1].expand_as(lit))
    shares = lit[:, 0, 0, 0] / 100
    assert 1 - LIGHT <= shares.min() < 1 - 0.8 * LIGHT
    assert 1 + 0.8 * LIGHT < shares.max() <= 1 + LIGHT


def test_a_light_keeps_hues_in_their_order() -> None:
    colour = torch.tensor([40.0, 90.0, 120.0]).view(1, 3, 1, 1).expand(100, 3, 4, 4)
    red, green, blue = relit(colour, seeded())[:, :, 0, 0].unbind(dim=1)
    assert (red < green).all()
    assert (green < blue).all()
