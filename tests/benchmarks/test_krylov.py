"""Each figure on recursions whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.krylov import TERMS, asymmetry, examine, on_rows
from model.deliberation import LoopConfig, remember
from model.diagnostics import spectral_radius, step_of


def affine(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """F(q) = J q + c has J everywhere, and its second-order step from any q is exact."""
    shift = torch.randn(4, generator=torch.Generator().manual_seed(0))
    first = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    return shift, first


def test_a_symmetric_contraction_is_all_the_theory_says() -> None:
    matrix = torch.diag(torch.tensor([0.5, -0.25, 0.1, 0.0]))
    shift, first = affine(matrix)
    found = examine(1, lambda q: q @ matrix.mT + shift, first)
    assert found.radius_first == pytest.approx(0.5, abs=1e-5)
    assert found.contracts == found.settles == 1
    assert found.asymmetry == pytest.approx(0)
    assert found.newton < 1e-4
    assert list(found.neumann) == sorted(found.neumann, reverse=True)
    assert found.neumann[TERMS.index(8)] < 0.5**7
    assert found.neumann == pytest.approx(found.loop, abs=1e-5)  # an affine loop is its own Neumann series
    assert found.krylov[TERMS.index(4)] < 1e-4  # four different eigenvalues: four terms are enough
    assert all(best <= plain + 1e-5 for best, plain in zip(found.krylov, found.neumann, strict=True))


def test_a_growing_rotation_is_none_of_it() -> None:
    matrix = torch.zeros(4, 4)
    matrix[0, 1], matrix[1, 0], matrix[2, 2] = -1.2, 1.2, 0.3
    shift, first = affine(matrix)
    found = examine(1, lambda q: q @ matrix.mT + shift, first)
    assert found.radius_first == pytest.approx(1.2, abs=1e-4)
    assert found.contracts == found.settles == 0
    assert found.neumann[-1] > found.neumann[0]
    assert found.asymmetry > 1


def test_asymmetry_of_a_rotation() -> None:
    assert asymmetry(torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])).item() == pytest.approx(2)


def test_the_exact_radius_agrees_with_power_iteration_on_a_real_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    config = LoopConfig(temperature=0.3)
    keys = torch.nn.functional.normalize(torch.randn(12, 16, generator=generator), dim=1)
    memory = remember(keys, torch.randn(12, 16, generator=generator), torch.eye(16), config)
    query = torch.nn.functional.layer_norm(torch.randn(5, 16, generator=generator), (16,))
    found = examine(3, on_rows(step_of(memory, config, 12)), query)
    iterated = spectral_radius(query.unsqueeze(1), memory, config, 12).median().item()
    assert found.radius_first == pytest.approx(iterated, rel=0.05)
