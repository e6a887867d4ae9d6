"""Takes the features of images, each once for as long as it is needed and the pools are the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model.budget import BudgetBatch
from model.deliberation import Memory
from model.network import RetrievalViT
from model.pools import Pools
from trainer.learning.config import LearnerConfig
from trainer.learning.feature_cache import FeatureCache, image_names
from trainer.learning.task import Task, interleaved

Between = Callable[[], None]
"""Called between batches of images; may raise to abandon the work."""


def go_on() -> None:
    """Nothing, which is what is done between batches unless told otherwise."""


class Describer:
    """What images look like to one backbone, in batches of the size configured."""

    def __init__(self, network: RetrievalViT, config: LearnerConfig, pause: Between = go_on) -> None:
        """pause: called between pieces of work that take seconds at most; may raise to abandon the work.

        Such are batches of images whose features are taken, and steps of solving a head.
        """
        self.network = network
        self.config = config
        self.pause = pause
        self.cache = FeatureCache()

    def begun(self, pools: Pools, task: Task, patience_s: float = 0.3) -> Task:
        """The part of a task whose features could be taken in `patience_s` seconds, of each class an image at least.

        Itself, where that is all of it. So new classes can be served soon however many images there are.
        """
        began, classes, order, taken = time.monotonic(), len(set(task.labels)), interleaved(task.labels), []
        for done, rows in enumerate(order.split(self.config.batch), start=1):
            taken.append(self.extract(pools, task.pixels[rows]))
            # The order is round-robin: with as many images as classes, each class is in.
            if done * self.config.batch >= classes and time.monotonic() - began > patience_s:
                break
        features = torch.cat(taken)
        if len(features) == len(order):
            self.cache.keep(pools, task, features[order.argsort()])
            return task
        return self.cache.begin(pools, task, order[: len(features)], features)

    def described(self, pools: Pools, task: Task, between: Between = go_on) -> Tensor:
        """Features [n, F] of a task's images, taken once for as long as the task lives and the pools stay the same.

        Each image passes the backbone once: the fast version and what consolidates it later read the same features.
        between: called before each batch.
        """
        known = self.cache.features(pools, task)
        if known is not None:
            return known
        left, features = interleaved(task.labels), torch.empty(len(task.labels), self.network.backbone.width)
        if begun := self.cache.begun(pools, task):
            rows, features[rows] = begun
            left = left[len(rows) :]
        for rows in left.split(self.config.batch):
            between()
            features[rows] = self.extract(pools, task.pixels[rows])
        return self.cache.keep(pools, task, features)

    def measured(self, pools: Pools, pixels: Tensor, between: Between = go_on) -> Tensor:
        """Features [n, F] of all images that are measured at once, pixels [n, 3, px, px] on the CPU.

        Those that were measured the last time, too, do not pass the backbone again.  between: called before each batch.
        """
        names, known = image_names(pixels), self.cache.measured(pools)
        features = {name: known[name] for name in names if name in known}
        left = [row for row, name in enumerate(names) if name not in features]
        for start in range(0, len(left), self.config.batch):
            between()
            rows = left[start : start + self.config.batch]
            for row, found in zip(rows, self.extract(pools, pixels[rows]), strict=True):
                features[names[row]] = found.clone()  # a view would keep its whole batch in memory
        self.cache.keep_measured(pools, features)
        return torch.stack([features[name] for name in names])

    @torch.inference_mode()
    def extract(self, pools: Pools, pixels: Tensor) -> Tensor:
        """Features [n, F], of length one, of pixels [n, 3, px, px] under some pools; on the CPU."""
        device = self.network.backbone.device
        memories = pools.to(device).memories(self.network.loop)
        return torch.cat(
            [self.features(memories, chunk.to(device)) for chunk in pixels.split(self.config.batch)]
        )

    def features(self, memories: Sequence[Memory], pixels: Tensor) -> Tensor:
        """One batch of them, pixels [B, 3, px, px] where the network is -> [B, F] on the CPU."""
        self.pause()
        budgets = BudgetBatch.repeat(self.network.loop.budget, len(pixels), pixels.device)
        return F.normalize(self.network(pixels, memories, budgets).vectors.float().cpu(), dim=-1)
