"""From a checkpoint to the files that ship: fp16 weights, their description, the loss curve."""

import hashlib
import json
from pathlib import Path

import matplotlib
import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from benchmarks.pretrain.student import ARCHITECTURE
from benchmarks.pretrain.teacher import STUDENT_PX

POOLING = {"global_pool": "token"}
"""The image's vector is its normalised class token."""


def averaged(checkpoint: Path) -> VisionTransformer:
    """The averaged student of a run. Raises FileNotFoundError where there is no checkpoint yet."""
    weights: dict[str, Tensor] = torch.load(checkpoint, weights_only=True)["average"]
    prefix = "vit."
    vit = VisionTransformer(**ARCHITECTURE, **POOLING).eval()
    vit.load_state_dict({k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)})
    return vit


def export(vit: VisionTransformer, weights: Path) -> str:
    """Write a backbone as `weights` (safetensors, fp16) with its `.json` beside it; the sha256."""
    data = save({name: tensor.half().contiguous() for name, tensor in vit.state_dict().items()})
    card = {
        "architecture": {**ARCHITECTURE, **POOLING, "depth": len(vit.blocks)},
        "px": STUDENT_PX,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(data)
    weights.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    return str(card["sha256"])


def draw_curve(history: list[dict[str, float]], picture: Path) -> None:
    """Plot the loss terms of a run, smoothed, and the held-out ones, against minutes of training."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    minutes = [entry["minutes"] for entry in history]
    for name in ("tokens", "cls", "logits", "geometry", "instance"):
        axes[0].plot(minutes, smoothed([entry[name] for entry in history]), label=name)
    checked = [entry for entry in history if "held_out_photos_cls" in entry]
    for source in ("photos", "birds", "graphics"):
        for term, style in (("cls", "-"), ("tokens", "--"), ("geometry", ":")):
            name = f"held_out_{source}_{term}"
            points = [entry[name] for entry in checked]
            axes[1].plot([entry["minutes"] for entry in checked], points, style, label=f"{source}, {term}")
    titles = ("training, augmented", "held out, averaged weights")
    for axis, title, columns in zip(axes, titles, (1, 3), strict=True):
        axis.set(title=title, xlabel="minutes of training", yscale="log")
        axis.legend(fontsize=7, ncols=columns)
    figure.savefig(picture, dpi=80)
    pyplot.close(figure)


def smoothed(values: list[float], keep: float = 0.9) -> list[float]:
    """Exponential moving average that starts at the first value."""
    result: list[float] = []
    for value in values:
        result.append(value if not result else keep * result[-1] + (1 - keep) * value)
    return result
