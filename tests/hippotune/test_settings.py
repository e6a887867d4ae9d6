"""One class, three ways in, one record out for each room."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pydantic import ValidationError

from exchange.queue import QueueConfig
from hippotune import configs
from hippotune.setting_types import Part
from hippotune.settings import Settings
from model.deliberation import LoopConfig
from service.config import ServiceConfig
from trainer.config import TrainerConfig
from trainer.learning.config import LearnerConfig, ValidationConfig

COMPOSED = {"redis_url", "backbone", "queue", "loop", "learner", "validation"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", *(f"HIPPOTUNE_{name.upper()}" for name in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_is_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIPPOTUNE_MAX_BATCH", "7")
    monkeypatch.setenv("HIPPOTUNE_PORT", "1234")
    settings = Settings(port=4321)
    assert (settings.max_batch, settings.port) == (7, 4321)


def test_redis_url_is_known_by_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://shared")
    assert Settings().redis_url == "redis://shared"
    monkeypatch.setenv("HIPPOTUNE_REDIS_URL", "redis://ours")
    assert Settings().redis_url == "redis://ours"


@pytest.mark.parametrize("record", [ServiceConfig, TrainerConfig, LearnerConfig, LoopConfig])
def test_every_field_of_every_room_is_a_setting(record: type) -> None:
    assert {field.name for field in dataclasses.fields(record)} - COMPOSED <= set(Settings.model_fields)


@pytest.mark.parametrize(("prefix", "record"), [("queue", QueueConfig), ("validation", ValidationConfig)])
def test_every_field_of_a_part_is_a_setting_under_its_name(prefix: str, record: type) -> None:
    assert {f"{prefix}_{field.name}" for field in dataclasses.fields(record)} <= set(Settings.model_fields)


def test_what_is_not_said_is_the_rooms_own_default() -> None:
    assert configs.service(Settings(), "redis://x") == ServiceConfig("redis://x", Path("store"))
    assert configs.queue(Settings()) == QueueConfig()
    trainer = configs.trainer(Settings(consumer="one"), "redis://x")
    assert (trainer.learner, trainer.loop, trainer.consumer) == (LearnerConfig(), LoopConfig(), "one")


def test_what_is_said_arrives() -> None:
    weights = Path(__file__)  # which is a file
    settings = Settings(
        lr=0.5,
        tmax=2,
        layers="1,3",
        queue_capacity=5,
        queue_images=64,
        px=64,
        backbone="vit",
        weights=weights,
    )
    trainer, service = configs.trainer(settings, "redis://x"), configs.service(settings, "redis://x")
    assert (trainer.learner.lr, trainer.loop.tmax, trainer.loop.layers) == (0.5, 2, (1, 3))
    assert (service.queue.capacity, service.queue_images) == (5, 64)
    assert service.backbone == trainer.backbone == configs.backbone(settings)
    assert (service.backbone.name, service.backbone.weights, service.backbone.px) == ("vit", weights, 64)


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(lr=0.5, layers="2,4", store="/somewhere", redis_url="redis://x", log_level="warning")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "99999"),
        ("threads", "0"),
        ("max_batch", "0"),
        ("max_pixels", "0"),
        ("max_task_check_s", "0"),
        ("lr", "-1"),
        ("lr", "inf"),
        ("lambda_orth", "nan"),
        ("shrinkage", "0"),
        ("alpha", "1.5"),
        ("log_level", "loud"),
        ("tmax", "x"),
        ("redis_url", "127.0.0.1"),
    ],
)
def test_nonsense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**{name: value})
    assert caught.value.errors()[0]["loc"] == (name,)


def test_every_setting_says_whom_it_concerns() -> None:
    for name, field in Settings.model_fields.items():
        assert [item for item in field.metadata if isinstance(item, Part)], name


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_a_variable_that_is_empty_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As templates of .env, compose and Kubernetes write what nobody filled in."""
    plain = Settings()
    monkeypatch.setenv(f"HIPPOTUNE_{name.upper()}", "")
    assert Settings() == plain
