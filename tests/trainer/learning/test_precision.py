"""Training mixes precisions; what it trains does not."""

from __future__ import annotations

import pytest
import torch

from model.device import multiplies_bfloat16
from trainer.learning.precision import training_precision


def assume(monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    """Whatever the processor that runs the tests multiplies."""
    monkeypatch.setattr("trainer.learning.precision.multiplies_bfloat16", lambda _: pays)


@pytest.mark.parametrize("pays", [True, False])
def test_products_are_bfloat16_where_that_pays_and_parameters_stay_float32(
    pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume(monkeypatch, pays)
    device = torch.device("cpu")
    layer, x = torch.nn.Linear(8, 8), torch.randn(2, 8)
    with training_precision(device):
        product = layer(x)
    assert product.dtype == (torch.bfloat16 if pays else torch.float32)
    product.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    assert layer(x).dtype == torch.float32


def test_an_unknown_kind_of_device_is_left_in_float32() -> None:
    assert not multiplies_bfloat16(torch.device("meta"))


def test_an_update_is_seen_inside_another_mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assume(monkeypatch, pays=True)
    layer = torch.nn.Linear(1, 1, bias=False)
    cpu = torch.device("cpu")
    with torch.autocast("cpu", enabled=False):
        for weight in (1.0, 2.0):
            torch.nn.init.constant_(layer.weight, weight)
            with training_precision(cpu):
                assert layer(torch.ones(1, 1)).item() == weight
