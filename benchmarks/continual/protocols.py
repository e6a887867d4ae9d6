"""What is fixed when figures are compared: data, tasks, image size, images a class, passes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.learning.config import LearnerConfig
from trainer.learning.epochs import passes


@dataclass(frozen=True, slots=True)
class Protocol:
    """Conditions of a run, equal for all methods.

    data: cifar100, cub100 or imagefolder:DIR.  folder: where the archives are.
    scenario, tasks: how the data becomes a stream.
    px: side of the square input.  train_per_class, test_per_class: the first so many of each class; None takes all.
    split: what judges; `validation` is cut from training data, for a search of hyper-parameters.
    epochs, least_steps, batch: passes over a task, or more of them until so many updates were made; images a step.
    probe_per_class: test images a class that are asked again and again during training, for the stability gap.
    backbone, weights: a timm name or `bundled`, and its safetensors file.
    precision: fp32 or bf16; None takes bf16 on CUDA, else fp32.
    """

    data: str = "cifar100"
    folder: Path = Path("../shared/data")
    scenario: str = "class"
    tasks: int = 10
    px: int = 128
    train_per_class: int | None = 50
    test_per_class: int | None = 20
    split: str = "test"
    epochs: int = LearnerConfig().epochs
    least_steps: int = LearnerConfig().least_steps
    batch: int = LearnerConfig().batch
    probe_per_class: int = 2
    backbone: str = "deit_tiny_patch16_224"
    weights: Path | None = Path("../shared/data/deit_tiny_patch16_224_timm.safetensors")
    precision: str | None = None
    device: str = "cpu"

    def shown(self, images: int) -> int:
        """Images that are trained on while a task of so many is passed over."""
        return images * passes(self.epochs, -(-images // self.batch), self.least_steps)

    @property
    def single_pass(self) -> bool:
        """Whether every image is trained on once."""
        return self.scenario == "online"

    def __post_init__(self) -> None:
        if self.single_pass and (self.epochs != 1 or self.least_steps):
            raise ValueError(
                f"epochs is {self.epochs}, least_steps {self.least_steps}; "
                "the online scenario passes over every image once"
            )


QUICK = Protocol()
FEW = Protocol(train_per_class=5)
FULL = Protocol(px=224, train_per_class=None, test_per_class=None, epochs=5, batch=128)
CUB = Protocol(data="cub100", px=224, train_per_class=None, test_per_class=None)

SCENARIO_CONDITIONS: dict[str, dict[str, int]] = {
    "domain": {"tasks": 5},
    "online": {"epochs": 1, "least_steps": 0},
    "single": {"tasks": 100},
}
"""What a scenario asks for where nothing else is said."""

PROTOCOLS = {"quick": QUICK, "few": FEW, "full": FULL, "cub": CUB}
