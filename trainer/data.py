"""Reads a claimed task's images from the blob store into memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from exchange.blobs import BlobStore
from exchange.records import Claim
from model.preprocess import UndecodableImage, decode
from trainer.task import Task


class UnusableTask(ValueError):
    """A task that no retry will make learnable; the message says which image and why."""


def load_task(
    claim: Claim, rows: Sequence[int], blobs: BlobStore, px: int, max_pixels: int, threads: int
) -> Task:
    """Decode those images of a task to px, in that order: each to where it stays, as tasks may fill the memory.

    Raises UnusableTask, BlobMissing, BlobCorrupt and BlobUnreadable.
    """
    if not rows:
        raise UnusableTask("the task has no images")
    samples = [claim.samples[row] for row in rows]
    pixels = np.empty((len(samples), 3, px, px), np.uint8)

    def fill(place: int) -> None:
        blob = samples[place].blob
        try:
            pixels[place] = decode(blobs.get(blob), px, max_pixels)
        except UndecodableImage as error:
            raise UnusableTask(f"image {blob[:12]}: {error}") from error

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(len(samples))))
    return Task(claim.task.id, torch.from_numpy(pixels), tuple(sample.label for sample in samples))
