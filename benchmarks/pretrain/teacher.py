"""What the teacher sees in every training image, computed once and kept on disk."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.multiprocessing import Process

from benchmarks.fetch import DEIT, WEIGHTS
from benchmarks.pretrain.data import read_archive
from benchmarks.pretrain.graphics import graphics

STUDENT_PX = 64
PHOTOS = 45_000
"""CIFAR-100 training images that the student sees."""
GRAPHICS = 10_000
"""Graphics that the student is taught by the teacher."""
CHUNK = 32
"""Images the teacher sees at a time."""
CORES = len(os.sched_getaffinity(0))
"""Processes that share the teacher's pass."""


@dataclass(frozen=True)
class Views:
    """One source of training images with the teacher's view of each.

    Attributes:
        name: the source.
        images: uint8 [N, 3, s, s], what crops are cut from.
        cls: the teacher's normalised class token, fp16 [N, t].
        tokens: its normalised patch tokens as a map over the same picture, fp16 [N, t, g, g].
    """

    name: str
    images: Tensor
    cls: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.images)


def load_teacher(weights: Path) -> VisionTransformer:
    """DeiT-Tiny/16 with its 1000-class head, frozen, for any image side that 16 divides.

    Raises FileNotFoundError for missing weights, RuntimeError for those of another architecture.
    """
    model = timm.create_model(DEIT, num_classes=1000, dynamic_img_size=True)
    model.load_state_dict(load_file(weights), strict=True)
    return cast(VisionTransformer, model.eval().requires_grad_(False))


def normalise(images: Tensor) -> Tensor:
    """ImageNet normalisation of uint8 [B, 3, H, W] to float32."""
    mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


def enlarge(images: Tensor, px: int) -> Tensor:
    """Resize uint8 [B, 3, s, s] bicubically to side `px`."""
    if images.shape[-1] == px:
        return images
    large = F.interpolate(images.float(), size=(px, px), mode="bicubic", antialias=True)
    return large.round().clamp(0, 255).to(torch.uint8)


def shared_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros in memory that forked processes see alike."""
    zeros: Tensor = torch.zeros(shape, dtype=dtype).share_memory_()
    return zeros


def observe(teacher: VisionTransformer, images: Tensor, px: int, name: str) -> tuple[Tensor, Tensor]:
    """The teacher's class token fp16 [N, t] and token map fp16 [N, t, px/16, px/16] at side `px`.

    One single-threaded process a core: on a busy machine they share it far better than threads that wait for
    each other after every operation.
    """
    side = px // 16
    cls = shared_zeros((len(images), teacher.embed_dim), torch.float16)
    tokens = shared_zeros((len(images), teacher.embed_dim, side, side), torch.float16)
    look = partial(_observe_part, teacher, images, px, cls, tokens)
    starts = range(0, len(images), CHUNK)
    shares = [(look, starts[n::CORES], n == 0, name) for n in range(CORES)]
    workers = [Process(target=_observe_parts, args=share) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode != 0:
            raise RuntimeError(f"the teacher's pass over {name} ended with code {worker.exitcode}")
    return cls, tokens


def _observe_parts(look: Callable[[int], None], starts: range, shown: bool, name: str) -> None:
    torch.set_num_threads(1)
    for start in track(starts, description=f"teacher on {name}", disable=not shown):
        look(start)


@torch.inference_mode()
def _observe_part(
    teacher: VisionTransformer, images: Tensor, px: int, cls: Tensor, tokens: Tensor, start: int
) -> None:
    """Fill one chunk of the shared `cls` and `tokens`."""
    part = slice(start, start + CHUNK)
    seen = teacher.forward_features(normalise(enlarge(images[part], px)))  # [B, 1 + side^2, t]
    cls[part] = seen[:, 0].half()
    tokens[part] = seen[:, 1:].transpose(1, 2).reshape(tokens[part].shape).half()


def cached_views(data: Path, cache: Path) -> tuple[Views, ...]:
    """Load every source, asking the teacher first where `cache` holds no answer yet.

    The sources are CIFAR-100 train (teacher at 128 px), CUB-100 train (224 px) and graphics (224 px). No test image is
    read.
    """
    cache.mkdir(parents=True, exist_ok=True)
    teacher = load_teacher(data / WEIGHTS)
    large = _kept("birds", partial(read_archive, data / "cub100_train_webp.npz", 224), cache)
    birds = _views("birds", large, 224, teacher, cache)
    pictures = _kept("photos", partial(read_archive, data / "cifar100_train_webp.npz", STUDENT_PX), cache)
    pictures = pictures[torch.randperm(len(pictures), generator=torch.Generator().manual_seed(1))[:PHOTOS]]
    photos = _views("photos", pictures, 128, teacher, cache)
    kept = _kept("graphics", partial(graphics, GRAPHICS, seed=1), cache)
    return photos, replace(birds, images=enlarge(large, 128)), _views("graphics", kept, 224, teacher, cache)


def _kept(name: str, make: Callable[[], Tensor], cache: Path) -> Tensor:
    """The images of a source, made where `cache` does not hold them."""
    kept = cache / f"{name}.images.npy"
    if not kept.exists():
        _save(kept, make())
    return torch.from_numpy(np.load(kept))


def _views(name: str, images: Tensor, px: int, teacher: VisionTransformer, cache: Path) -> Views:
    cls_path, tokens_path = cache / f"{name}.cls.npy", cache / f"{name}.tokens.npy"
    if not (cls_path.exists() and tokens_path.exists()):
        cls, tokens = observe(teacher, images, px, name)
        _save(tokens_path, tokens)
        _save(cls_path, cls)
    return Views(name, images, torch.from_numpy(np.load(cls_path)), torch.from_numpy(np.load(tokens_path)))


def _save(path: Path, tensor: Tensor) -> None:
    """Write an array under a temporary name first: an interrupted run leaves no half-written cache."""
    partial = path.with_suffix(".partial.npy")
    np.save(partial, tensor.numpy())
    partial.replace(path)
