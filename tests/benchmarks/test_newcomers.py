"""Who is asked among which labels is counted rightly."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sklearn", reason="the benchmarks come with the extra dev")

from benchmarks.newcomers import right, table
from model.head import Head


def test_a_label_that_is_not_asked_for_is_no_answer() -> None:
    head, known = Head(torch.eye(3), torch.zeros(3)), ("ant", "bee", "cow")
    seen = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.4, 0.0]])
    assert right(head, known, seen, ["ant", "bee"]) == 0.5
    assert right(head, known, seen, ["cow", "bee"], among={"bee", "cow"}) == 0.5
    assert right(head, known, seen, ["bee", "bee"], among={"bee"}) == 1.0


def test_a_row_tells_how_many_images_it_is_of() -> None:
    shares = {"new": 0.5, "new_among_new": 0.75, "old": 0.25}
    figures = {"scenes": {"birds": {"old_before": 0.3, "images": {"2": shares}}}}
    assert table(figures).splitlines()[-1] == "| birds | 2 | 50.0 | 75.0 | 25.0 | 30.0 |"
