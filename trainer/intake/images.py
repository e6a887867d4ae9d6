"""Reads a claimed task's images from the blob store into memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from exchange.blobs import BlobStore
from exchange.records import Sample, TaskRecord
from model.preprocess import UndecodableImage, decode
from trainer.learning.task import Task


class UnusableTask(ValueError):
    """A task that no retry will make learnable; the message says which image and why."""


def load_task(
    task: TaskRecord, samples: Sequence[Sample], blobs: BlobStore, px: int, max_pixels: int, threads: int
) -> Task:
    """Decode the images of a task to px, in their order: each to where it stays, as tasks may fill the memory.

    Raises UnusableTask, BlobMissing, BlobCorrupt and BlobUnreadable.
    """
    if not samples:
        raise UnusableTask("the task has no images")
    pixels = np.empty((len(samples), 3, px, px), np.uint8)

    def fill(place: int) -> None:
        blob = samples[place].blob
        try:
            pixels[place] = decode(blobs.get(blob), px, max_pixels)
        except UndecodableImage as error:
            raise UnusableTask(f"image {blob[:12]}: {error}") from error

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(len(samples))))
    labels = tuple(sample.label for sample in samples)
    return Task(task.id, torch.from_numpy(pixels), labels, digests_of(samples))


def digests_of(samples: Sequence[Sample]) -> Tensor:
    """[n] int64: the first eight bytes of the SHA-256 of each sample's encoded image."""
    names = (int.from_bytes(bytes.fromhex(sample.blob[:16]), signed=True) for sample in samples)
    return torch.tensor(list(names), dtype=torch.int64)


def each_once(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples in their order, without those that came before under the same label."""
    return tuple(dict.fromkeys(samples))
