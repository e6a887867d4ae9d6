"""Which backbone to load. Apart from what loads it: settings are judged before torch and timm are imported, which takes
seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """Which backbone to load.

    name: a timm model name, or "bundled" for the one shipped with this package.
    weights: a safetensors file; None lets timm download its own.
    px: side of the square input; None takes what the model was trained at.
    """

    name: str = "bundled"
    weights: Path | None = None
    px: int | None = None
