"""The small bundled backbone, with which a machine without a model hub can do the whole job.

`assets/bundled.safetensors` holds the weights in fp16, `assets/bundled.json` the architecture, the
preprocessing and the weights' sha256, `assets/README.md` where they come from and what they are worth.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load
from timm.models.vision_transformer import VisionTransformer

BUNDLED = Path(__file__).with_name("assets") / "bundled.safetensors"
"""The weights inside the package."""


class BundledWeightsInvalid(ValueError):
    """The bundled weights or their description are missing, cut short or altered; the message says which."""


@dataclass(frozen=True, slots=True)
class BundledCard:
    """What `bundled.json` says about the weights beside it.

    architecture: keyword arguments of timm's `VisionTransformer`.
    px: side of the square input.
    mean, std: per channel, for pixels in 0..1.
    sha256: of the weights' file.
    """

    architecture: dict[str, Any]
    px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    sha256: str

    @classmethod
    def read(cls, path: Path) -> BundledCard:
        """Read the description. Raises BundledWeightsInvalid."""
        try:
            fields = json.loads(path.read_text())
            mean, std = fields["mean"], fields["std"]
            return cls(
                architecture=dict(fields["architecture"]),
                px=int(fields["px"]),
                mean=(float(mean[0]), float(mean[1]), float(mean[2])),
                std=(float(std[0]), float(std[1]), float(std[2])),
                sha256=str(fields["sha256"]),
            )
        except OSError as error:
            told = f"cannot read {path}: {error}. Reinstall hippotune, or name these weights' model with --backbone"
            raise BundledWeightsInvalid(told) from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            message = f"{path} does not describe a backbone: {error!r}. Reinstall hippotune"
            raise BundledWeightsInvalid(message) from error


def load_bundled(path: Path = BUNDLED) -> tuple[VisionTransformer, BundledCard]:
    """The bundled vision transformer, in fp32 and evaluation mode, and what is said about it.

    path: a safetensors file with its description beside it (same name, `.json`).

    Raises BundledWeightsInvalid where the file is not the one described.
    """
    card = BundledCard.read(path.with_suffix(".json"))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundledWeightsInvalid(f"cannot read {path}: {error}. Reinstall hippotune") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise BundledWeightsInvalid(
            f"{path} ({len(data)} bytes) has sha256 {digest}, but {path.with_suffix('.json').name} states "
            f"{card.sha256}: the file is cut short or altered. Reinstall hippotune"
        )
    try:
        vit = VisionTransformer(**card.architecture)
        vit.load_state_dict({name: tensor.float() for name, tensor in load(data).items()}, strict=True)
    except (RuntimeError, TypeError, ValueError) as error:
        raise BundledWeightsInvalid(f"{path} does not fit the architecture beside it: {error}") from error
    return vit.eval(), card
