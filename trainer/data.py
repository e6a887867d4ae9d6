"""Reads a claimed task's images from the blob store into memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from exchange.blobs import BlobStore
from exchange.records import Claim
from model.preprocess import UndecodableImage, decode
from trainer.task import Task


class UnusableTask(ValueError):
    """A task that no retry will make learnable; the message says which image and why."""


def load_task(claim: Claim, blobs: BlobStore, px: int, max_pixels: int, threads: int) -> Task:
    """Decode every image of a task to px. Raises UnusableTask, BlobMissing, BlobCorrupt and BlobUnreadable."""

    def pixels(blob: str) -> np.ndarray:
        try:
            return decode(blobs.get(blob), px, max_pixels)
        except UndecodableImage as error:
            raise UnusableTask(f"image {blob[:12]}: {error}") from error

    with ThreadPoolExecutor(threads) as pool:
        decoded = list(pool.map(pixels, (sample.blob for sample in claim.samples)))
    if not decoded:
        raise UnusableTask("the task has no images")
    labels = tuple(sample.label for sample in claim.samples)
    return Task(claim.task.id, torch.from_numpy(np.stack(decoded)), labels)
