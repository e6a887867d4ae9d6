"""Swaps under load: what befalls the callers when a swap fails."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks.end_to_end import swap_under_load
from hippotune import Client
from hippotune.errors import Unreachable


def test_callers_end_with_a_swap_that_fails() -> None:
    activated: list[int] = []

    def activate(version: int) -> None:
        activated.append(version)
        if len(activated) > 2:  # each version is tried once before
            raise Unreachable("the server has gone")

    def classify(_image: bytes) -> SimpleNamespace:
        return SimpleNamespace(version=activated[-1], predictions=[SimpleNamespace(label="cat", score=1.0)])

    versions = [SimpleNamespace(version=number) for number in (2, 1)]
    client = SimpleNamespace(versions=lambda: versions, activate=activate, classify=classify)
    running = threading.active_count()
    with pytest.raises(Unreachable):
        swap_under_load(cast(Client, client), [b"image"], swaps=4, callers=2)
    assert threading.active_count() == running
