"""What each room is told: a frozen record of its own, made of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from hippotune.settings import Settings

if TYPE_CHECKING:
    from exchange.queue import QueueConfig
    from model.deliberation import LoopConfig
    from model.spec import BackboneSpec
    from service.config import ServiceConfig
    from trainer.config import TrainerConfig

C = TypeVar("C")


def backbone(settings: Settings) -> BackboneSpec:
    """Which backbone to load. Raises ValueError where there is no such file of weights."""
    from model.spec import BackboneSpec

    weights = settings.weights
    if weights is not None and not weights.is_file():
        raise ValueError(f"weights is {weights}; there is no such file")
    return BackboneSpec(settings.backbone, weights, settings.px)


def queue(settings: Settings) -> QueueConfig:
    """Names and bounds of the task queue."""
    from exchange.queue import QueueConfig

    return _fill(QueueConfig, _named(settings, "queue_"))


def loop(settings: Settings) -> LoopConfig:
    """What slots are trained in."""
    from model.deliberation import LoopConfig

    return _fill(LoopConfig, settings.given)


def service(settings: Settings, redis_url: str) -> ServiceConfig:
    """What a server is told. Raises ValueError when two settings contradict each other."""
    from service.config import ServiceConfig

    ours = {"redis_url": redis_url, "backbone": backbone(settings), "queue": queue(settings)}
    return _fill(ServiceConfig, {**settings.given, **ours})


def trainer(settings: Settings, redis_url: str) -> TrainerConfig:
    """What a trainer is told. Raises ValueError when two settings contradict each other."""
    from model.device import pick_device
    from service.cpus import available_cpus
    from trainer.config import TrainerConfig
    from trainer.learning.config import LearnerConfig, ValidationConfig

    ours = {
        "redis_url": redis_url,
        "backbone": backbone(settings),
        "queue": queue(settings),
        "loop": loop(settings),
        "device": str(pick_device(settings.device)),
        "threads": settings.threads or available_cpus(),
        "learner": _fill(LearnerConfig, settings.given),
        "validation": _fill(ValidationConfig, _named(settings, "validation_")),
    }
    return _fill(TrainerConfig, {**settings.given, **ours})


def _named(settings: Settings, prefix: str) -> dict[str, Any]:
    """The settings given whose names start so, without it."""
    return {name.removeprefix(prefix): v for name, v in settings.given.items() if name.startswith(prefix)}


def _fill(config: type[C], values: Mapping[str, Any]) -> C:
    """A room's record from the values that bear its fields' names."""
    names = {field.name for field in fields(config)}  # type: ignore[arg-type]  # every config is one
    return config(**{name: value for name, value in values.items() if name in names})
