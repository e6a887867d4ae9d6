"""The methods by name: what each is configured with, and how it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.continual.methods.aligned import Aligned, AlignedConfig
from benchmarks.continual.methods.base import Method, Setting
from benchmarks.continual.methods.bodies import FullConfig, LoraConfig
from benchmarks.continual.methods.frozen import FrozenNcm, FrozenNcmConfig
from benchmarks.continual.methods.hippotune import HippoTune, HippoTuneConfig
from benchmarks.continual.methods.joint import Joint, JointConfig
from benchmarks.continual.methods.prompts import CODA_PROMPT, DUAL_PROMPT, L2P
from benchmarks.continual.methods.ranpac import Ranpac, RanpacConfig
from benchmarks.continual.methods.replayed import Replayed, ReplayedConfig
from benchmarks.continual.methods.trained import Trained, TrainedConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """A method.

    build: from its configuration.  config: its defaults.
    schedule: what stands before `epochs`, `least_steps` and `batch` in their dotted paths, which the protocol sets;
        None has none.
    seed: dotted path to a seed in the configuration, where the method does not take the setting's.
    joint: whether it learns all tasks as one.
    fills_up: whether a small task is passed over until it made the protocol's least updates.
    """

    build: Callable[[Any, Setting], Method]
    config: Any
    schedule: str | None = ""
    seed: str | None = None
    joint: bool = False
    fills_up: bool = True


# Prompts make five passes of a small task, too, and see images as they are, since more passes and other views gained
# nothing on validation images: see passes-*.json and views-*.json in benchmarks/results/continual.
RECIPES = {
    "hippotune": Recipe(HippoTune, HippoTuneConfig(), "learner.", "learner.seed"),
    "hippotune-fast": Recipe(HippoTune, HippoTuneConfig(fast_only=True), "learner.", "learner.seed"),
    "joint": Recipe(Joint, JointConfig(), "learner.", "learner.seed", joint=True),
    "frozen-ncm": Recipe(FrozenNcm, FrozenNcmConfig(), None),
    "ranpac": Recipe(Ranpac, RanpacConfig(), "first."),
    "finetune": Recipe(Trained, TrainedConfig(FullConfig(), lr=1e-4, head_lr=1e-3, masked=False)),
    "lora": Recipe(Trained, TrainedConfig(LoraConfig(), lr=1e-3, head_lr=1e-2)),
    "slca": Recipe(Aligned, AlignedConfig(), "trained."),
    "der": Recipe(Replayed, ReplayedConfig(), "trained."),
    "l2p": Recipe(Trained, TrainedConfig(L2P, lr=3e-3, head_lr=1e-2, vary=False), fills_up=False),
    "dualprompt": Recipe(
        Trained, TrainedConfig(DUAL_PROMPT, lr=1e-1, head_lr=1e-2, vary=False), fills_up=False
    ),
    "coda": Recipe(Trained, TrainedConfig(CODA_PROMPT, lr=1e-2, head_lr=1e-2, vary=False), fills_up=False),
}
