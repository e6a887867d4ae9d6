"""Reading records strictly, and what JSON cannot hold."""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter


@cache
def reader(kind: Any) -> TypeAdapter[Any]:
    """Building a validator costs far more than using it."""
    return TypeAdapter(kind)


def require_finite(metrics: Mapping[str, float]) -> None:
    """JSON has no NaN: a metric that is none would come back as null and make the record unreadable."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"metrics[{name!r}] is {value}: must be a finite number")
