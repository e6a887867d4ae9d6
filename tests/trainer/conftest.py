from __future__ import annotations

from functools import partialmethod
from pathlib import Path

import pytest
import timm
import torch
from redis import Redis
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from exchange.records import Claim, Sample, TaskRecord, TaskState
from model.backbone import Backbone
from model.calibration import Sharpness
from model.deliberation import LoopConfig
from model.head import Discriminant
from model.left_out import LeftOut
from model.moments import ClassMoments, label_rows
from model.network import RetrievalViT
from model.pools import Pools
from tests.trainer.bench import Bench
from trainer.duties.fast_path import FastPath
from trainer.intake.corrected_features import Correction
from trainer.learning import learner as learners
from trainer.learning.config import LearnerConfig
from trainer.learning.learner import Learner
from trainer.learning.state import LearnerState
from trainer.learning.task import Task


@pytest.fixture(scope="session")
def network() -> RetrievalViT:
    """Eight random blocks of 48 channels, deliberating in the first seven."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=8, num_heads=3, num_classes=0)
    return RetrievalViT(Backbone("test", vit, 32, (0.5,) * 3, (0.5,) * 3), LoopConfig(topk=4))


@pytest.fixture
def learner(network: RetrievalViT) -> Learner:
    return Learner(
        network, LearnerConfig(least_images=0, slots=4, epochs=3, least_steps=0, batch=8, settled=100)
    )


def stripes(task: str, labels: tuple[str, ...], per_class: int = 12, seed: int = 0) -> Task:
    """A task whose classes are told apart by colour and stripe width, with noise."""
    generator = torch.Generator().manual_seed(seed)
    images, names = [], []
    for label in labels:
        kind = sum(map(ord, label))
        colour = torch.tensor([kind * 37 % 256, kind * 91 % 256, kind * 53 % 256]).view(3, 1, 1)
        wave = (torch.arange(32) // (1 + kind % 4) % 2).view(1, 1, 32)
        for _ in range(per_class):
            noise = torch.randint(-40, 40, (3, 32, 32), generator=generator)
            images.append((colour * (0.4 + 0.6 * wave) + noise).clamp(0, 255).to(torch.uint8))
            names.append(label)
    return Task(task, torch.stack(images), tuple(names))


@pytest.fixture
def first() -> Task:
    return stripes("t1", ("ant", "bee", "cow"))


@pytest.fixture
def second() -> Task:
    return stripes("t2", ("dog", "elk"), seed=1)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task is served in part first because the machine has other work."""
    monkeypatch.setattr(Learner, "begun", partialmethod(Learner.begun, patience_s=60.0))


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task is served as soon as it was taken up, however long the version before took to make."""
    monkeypatch.setattr(FastPath, "due", True)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images pass the backbone at a time to have their features taken."""
    counts: list[int] = []
    extract = Learner.extract

    def counted(self: Learner, pools: Pools, pixels: Tensor) -> Tensor:
        counts.append(len(pixels))
        return extract(self, pools, pixels)

    monkeypatch.setattr(Learner, "extract", counted)
    return counts


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many images each task is that judges a head."""
    counts: list[int] = []
    fit = learners.fit_sharpness

    def counted(found: Discriminant, left_out: LeftOut) -> Sharpness:
        counts.append(len(left_out))
        return fit(found, left_out)

    monkeypatch.setattr(learners, "fit_sharpness", counted)
    return counts


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many classes each head is of that is solved."""
    classes: list[int] = []
    solve = Learner.solve

    def counted(self: Learner, moments: ClassMoments) -> Discriminant:
        classes.append(len(moments.labels))
        return solve(self, moments)

    monkeypatch.setattr(Learner, "solve", counted)
    return classes


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = timm.create_model("test_vit2", img_size=32, num_classes=0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(vit.state_dict(), path)
    return path


@pytest.fixture
def bench(redis: Redis, redis_server: object, tmp_path: Path, weights: Path) -> Bench:
    return Bench(redis, redis_server.url, tmp_path, weights)  # type: ignore[attr-defined]


def claim(samples: tuple[Sample, ...] = (), task: str = "c1") -> Claim:
    record = TaskRecord(task, "", TaskState.LEARNING, 1, (), 0, {}, None, 0, 0, None, None, None)
    return Claim(record, samples, "0-1", "test", deliveries=1, lease_token=1)


def correction(learner: Learner, state: LearnerState, features: Tensor, *labels: str) -> Correction:
    return Correction(claim(), features, labels, (learner.space(state.pools),) * len(labels))


def accuracy(learner: Learner, state: LearnerState, task: Task) -> float:
    """Share of a task's images that a state answers rightly, among all labels it knows."""
    checkpoint = learner.checkpoint(state)
    logits = checkpoint.head.logits(learner.extract(state.pools, task.pixels))
    return (logits.argmax(dim=1) == label_rows(task.labels, checkpoint.labels)).float().mean().item()
