"""The training loop: cosine schedule over a time budget, EMA of the weights, atomic resumable checkpoints.

Every core runs a process of its own with one thread and its own optimiser; all of them update one set of
weights in shared memory without locks (Hogwild, Niu et al. 2011). Threads that meet after every operation
lose most of a busy machine; these wait for nobody.
"""

import json
import math
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.multiprocessing import Process

from benchmarks.pretrain.augment import crop_frames, recolour, sample
from benchmarks.pretrain.drawings import drawing_pairs
from benchmarks.pretrain.graphics import figure_views
from benchmarks.pretrain.student import Batch, Distillation
from benchmarks.pretrain.teacher import CORES, STUDENT_PX, Views, shared_zeros

SAVE_EVERY_S = 120
"""Seconds between checkpoints."""
HELD_OUT = 25
"""One picture in this many is never trained on; the held-out loss is measured there."""


@dataclass(frozen=True)
class Recipe:
    """How to train."""

    minutes: float = 75.0
    """Time spent in training steps, over all resumed runs; the schedules run over this budget."""
    shares: tuple[int, ...] = (40, 14, 14)
    """Pictures of each source in a batch: photos, birds, graphics."""
    drawings: int = 8
    """Drawings made from photos in a batch, each seen twice."""
    figures: int = 12
    """Figures in a batch, each seen twice."""
    rate: float = 1e-3
    """Peak learning rate of AdamW; linear warm-up over 3 % of the budget, cosine to zero."""
    decay: float = 0.05
    """Weight decay of matrices."""
    drop: float = 0.6
    """Share of patches left out in the first 70 % of the budget; then 0.4, and none in the last 15 %."""
    ema: float = 0.999
    """Decay of the exponential moving average of the weights, a step."""
    seed: int = 0
    """Seed of weights, order and augmentation."""


class Clock:
    """Where a run stands, in memory that its processes share."""

    def __init__(self) -> None:
        """At the start."""
        self._spent = shared_zeros((1,), torch.float64)
        self._steps = shared_zeros((CORES,), torch.int64)

    @property
    def seconds(self) -> float:
        """Time spent in steps."""
        return float(self._spent)

    @property
    def step(self) -> int:
        """Steps made by all processes."""
        return int(self._steps.sum())

    def share(self, recipe: Recipe) -> float:
        """Part of the budget that is spent, 0..1."""
        return min(1.0, self.seconds / (60 * recipe.minutes))

    def advance(self, process: int, seconds: float) -> None:
        """Count one step of a process; only process 0 keeps the time."""
        self._steps[process] += 1
        if process == 0:
            self._spent += seconds

    def restore(self, step: int, seconds: float) -> None:
        """Continue from these figures."""
        self._steps[0], self._spent[0] = step, seconds


def rate_at(share: float, recipe: Recipe) -> float:
    """Learning rate when `share` of the budget is spent."""
    warm = min(1.0, (share + 1e-3) / 0.03)
    return recipe.rate * warm * 0.5 * (1 + math.cos(math.pi * share))


def drop_at(share: float, recipe: Recipe) -> float:
    """Share of patches left out when `share` of the budget is spent."""
    if share < 0.7:
        return recipe.drop
    return min(0.4, recipe.drop) if share < 0.85 else 0.0


def held_out(views: Views, keep: bool) -> Views:
    """The pictures of a source that are held out (`keep`), or all others."""
    chosen = (torch.arange(len(views)) % HELD_OUT == 0) == keep
    return replace(views, images=views.images[chosen], cls=views.cls[chosen], tokens=views.tokens[chosen])


def draw(sources: tuple[Views, ...], recipe: Recipe, grid: int) -> Batch:
    """An augmented batch: random pictures of each source, then drawings made from the first one and figures, twice."""
    images, cls, tokens = [], [], []
    for views, count in zip(sources, recipe.shares, strict=True):
        rows = torch.randint(len(views), (count,))
        frames = crop_frames(count, 0.4, flip=True)
        images.append(recolour(sample(views.images[rows].float() / 255, frames, STUDENT_PX)))
        tokens.append(sample(views.tokens[rows].float(), frames, grid))
        cls.append(views.cls[rows].float())
    drawn = sources[0].images[torch.randint(len(sources[0]), (recipe.drawings,))].float() / 255
    pairs = drawing_pairs(drawn, STUDENT_PX), figure_views(recipe.figures, 2, STUDENT_PX)[0].chunk(2)
    images.extend(torch.cat(views) for views in zip(*pairs, strict=True))
    return Batch(torch.cat(images), torch.cat(cls), torch.cat(tokens))


def whole(views: Views, count: int, grid: int) -> Batch:
    """The first `count` pictures of a source, not augmented."""
    frames = torch.eye(2, 3).expand(min(count, len(views)), -1, -1)
    return Batch(
        sample(views.images[:count].float() / 255, frames, STUDENT_PX),
        views.cls[:count].float(),
        sample(views.tokens[:count].float(), frames, grid),
    )


def optimiser_of(student: Distillation, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over the student, decaying matrices only."""
    trained = [p for p in student.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)


def step(
    student: Distillation,
    optimiser: torch.optim.AdamW,
    sources: tuple[Views, ...],
    recipe: Recipe,
    share: float,
) -> dict[str, float]:
    """One update on a fresh batch when `share` of the budget is spent; the loss terms."""
    for group in optimiser.param_groups:
        group["lr"] = rate_at(share, recipe)
    batch = draw(sources, recipe, student.grid)
    with torch.autocast("cpu", torch.bfloat16):  # sees more images in the same time
        losses = student(batch, drop_at(share, recipe))
    student.zero_grad()
    losses.total().backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimiser.step()
    return {name: float(value.detach()) for name, value in vars(losses).items()}


def assist(
    process: int,
    student: Distillation,
    state: dict[str, Any],
    sources: tuple[Views, ...],
    recipe: Recipe,
    clock: Clock,
) -> None:
    """Body of process 1 and up: update the shared student until the budget is spent."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed + 1000 * process + clock.step)
    optimiser = optimiser_of(student, recipe)
    optimiser.load_state_dict(deepcopy(state))
    while clock.share(recipe) < 1:
        step(student, optimiser, sources, recipe, clock.share(recipe))
        clock.advance(process, 0.0)


class Trainer:
    """Student, its average, optimiser, progress and history; one file on disk holds them all."""

    def __init__(
        self, student: Distillation, sources: tuple[Views, ...], recipe: Recipe, folder: Path
    ) -> None:
        """Start afresh, or where the checkpoint in `folder` stopped."""
        self.student, self.recipe, self.folder = student.share_memory(), recipe, folder
        self.average = deepcopy(student).requires_grad_(False)
        self.sources = tuple(held_out(views, keep=False) for views in sources)
        self.checks = tuple(whole(held_out(views, keep=True), 120, student.grid) for views in sources)
        self.optimiser = optimiser_of(student, recipe)
        self.clock = Clock()
        self.own_steps = 0
        self.history: list[dict[str, float]] = []
        if self.checkpoint.exists():
            self._resume()

    @property
    def checkpoint(self) -> Path:
        """The file a run resumes from."""
        return self.folder / "run.pt"

    def run(self) -> None:
        """Train until the budget is spent, saving every two minutes; an interrupt loses at most those."""
        helpers = [
            Process(
                target=assist,
                args=(n, self.student, self.optimiser.state_dict(), self.sources, self.recipe, self.clock),
                daemon=True,
            )
            for n in range(1, CORES)
        ]
        for helper in helpers:
            helper.start()
        saved = time.monotonic()
        columns = (BarColumn(), TextColumn("{task.completed:.1f}/{task.total} min {task.description}"))
        with Progress(*columns, TimeRemainingColumn()) as bar:
            task = bar.add_task("", total=self.recipe.minutes)
            while self.clock.share(self.recipe) < 1:
                terms = self._timed_step()
                shown = " ".join(f"{name} {value:.3f}" for name, value in terms.items())
                bar.update(task, completed=self.clock.seconds / 60, description=shown)
                if time.monotonic() - saved > SAVE_EVERY_S:
                    self.save()
                    saved = time.monotonic()
        for helper in helpers:
            helper.join()
        self.save()

    def _timed_step(self) -> dict[str, float]:
        started = time.perf_counter()
        share = self.clock.share(self.recipe)
        terms = step(self.student, self.optimiser, self.sources, self.recipe, share)
        self._follow()
        self.clock.advance(0, time.perf_counter() - started)
        self.own_steps += 1
        if self.own_steps % 25 == 0:
            self._note(terms)
        return terms

    def save(self) -> None:
        """Write the checkpoint under a temporary name, then rename it."""
        state = {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": {"step": self.clock.step, "seconds": self.clock.seconds},
            "own_steps": self.own_steps,
            "history": self.history,
            "random": torch.get_rng_state(),
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.clock.restore(**state["progress"])
        self.own_steps, self.history = state["own_steps"], state["history"]
        torch.set_rng_state(state["random"])

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the student; early steps weigh more, as in a running mean."""
        keep = min(self.recipe.ema, (1 + self.own_steps) / (10 + self.own_steps))
        averages: list[Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(averages, list(self.student.parameters()), 1 - keep)

    def _note(self, terms: dict[str, float]) -> None:
        """Append to the history, with the average's held-out loss every 200 steps of this process."""
        entry = {"step": self.clock.step, "minutes": self.clock.seconds / 60, **terms}
        if self.own_steps % 200 == 0:
            self.average.eval()
            with torch.inference_mode():
                checks = [self.average(batch, 0.0) for batch in self.checks]
            for views, losses in zip(self.sources, checks, strict=True):
                entry[f"held_out_{views.name}_cls"] = float(losses.cls)
                entry[f"held_out_{views.name}_tokens"] = float(losses.tokens)
                entry[f"held_out_{views.name}_geometry"] = float(losses.geometry)
        self.history.append(entry)
        (self.folder / "history.json").write_text(json.dumps(self.history))
