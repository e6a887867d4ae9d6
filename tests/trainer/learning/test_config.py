"""Settings of learning that make no sense are refused by name, and those that mean something are not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from trainer.learning.config import LearnerConfig, ValidationConfig

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("record", "name", "values"),
    [
        *((LearnerConfig, name, (0, -1)) for name in ("slots", "batch", "bptt")),
        *((LearnerConfig, name, (-1,)) for name in ("settled", "epochs", "least_steps", "sketch", "seed")),
        (LearnerConfig, "few_classes", (-1,)),
        *(
            (LearnerConfig, name, (-0.1, NAN, INF))
            for name in ("enough", "lambda_orth", "lambda_ent", "drift_weight")
        ),
        *(
            (LearnerConfig, name, (0.0, -1.0, NAN, INF))
            for name in ("value_scale", "lr", "later_lr", "drift_ridge")
        ),
        (LearnerConfig, "shrinkage", (0, -1, NAN, INF)),  # the head could not be solved
        (LearnerConfig, "mirror", (-0.1, 1.1, NAN)),
        *((ValidationConfig, name, (-0.1, 1.1, NAN)) for name in ("share", "tolerated_loss")),
        (ValidationConfig, "share", (1.0,)),
        *((ValidationConfig, name, (0, -1)) for name in ("per_class", "images", "least_images")),
    ],
)
def test_nonsense_is_refused_by_name_and_value(record: Any, name: str, values: tuple[float, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name} is {re.escape(str(value))}; it must "):
            record(**{name: value})


def test_what_switches_something_off_is_allowed() -> None:
    LearnerConfig(
        settled=0,
        epochs=0,
        least_steps=0,
        few_classes=0,
        enough=2.0,
        mirror=0,
        sketch=0,
        lambda_orth=0,
        drift_weight=0,
    )
    ValidationConfig(share=0, tolerated_loss=1)


@pytest.mark.parametrize("record", [LearnerConfig, ValidationConfig])
def test_every_number_is_looked_at(record: Any) -> None:
    for name, field in record.__dataclass_fields__.items():
        if field.type == "bool":
            continue
        with pytest.raises(ValueError, match=f"^{name} is nan"):
            record(**{name: NAN})
