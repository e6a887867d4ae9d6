"""What few images teach when they are looked at from nearer and farther, too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.network import RetrievalViT
from trainer.config import LearnerConfig
from trainer.learner import Learner
from trainer.task import Task
from trainer.views import NEARER, zoomed

from .conftest import accuracy

PX = 32
BARE = LearnerConfig(epochs=0, batch=8)


def discs(task: str, colours: dict[str, tuple[int, int, int]], per_class: int, seed: int) -> Task:
    """Discs of one colour a class, of any size, on any ground."""
    generator = torch.Generator().manual_seed(seed)
    across, down = torch.meshgrid(torch.arange(PX), torch.arange(PX), indexing="ij")
    images, names = [], []
    for label, colour in colours.items():
        for _ in range(per_class):
            x, y, radius = torch.rand(3, generator=generator) * torch.tensor([8, 8, 8]) + torch.tensor(
                [12, 12, 5]
            )
            inside = (across - x).square() + (down - y).square() < radius**2
            ground = torch.randint(0, 256, (3, 1, 1), generator=generator)
            images.append(torch.where(inside, torch.tensor(colour).view(3, 1, 1), ground).to(torch.uint8))
            names.append(label)
    return Task(task, torch.stack(images), tuple(names))


RED_AND_BLUE = {"red": (220, 40, 40), "blue": (40, 40, 220)}


def test_a_look_from_nearer_fills_the_image_with_its_middle_and_from_farther_goes_on_at_the_edge() -> None:
    pixels = torch.arange(10, dtype=torch.uint8).expand(1, 3, 10, 10)
    assert zoomed(pixels, 1.0).equal(pixels)
    assert zoomed(pixels, 0.5)[0, 0, 0].tolist() == pytest.approx(
        [2.25 + 0.5 * i for i in range(10)], abs=0.5
    )
    assert zoomed(pixels, 2.0)[0, 0, 0].tolist() == pytest.approx([0, 0, 0, 1, 4, 6, 8, 9, 9, 9], abs=1)


def test_looks_are_averaged_less_what_changes_in_all_alike_whatever_the_order(network: RetrievalViT) -> None:
    learner = Learner(network, BARE)
    task, pools = discs("t", RED_AND_BLUE, per_class=5, seed=0), learner.start().pools
    looks = [task.pixels, zoomed(task.pixels, NEARER), zoomed(task.pixels, 1 / NEARER)]
    plain, *others = (learner.extract(pools, look) for look in looks)
    expected = (plain + sum(others)) / 3
    expected += plain.mean(dim=0) - expected.mean(dim=0)
    torch.testing.assert_close(learner.looked(pools, task), expected)
    backwards = task.pick(range(9, -1, -1))
    torch.testing.assert_close(learner.looked(pools, backwards), expected.flip(0))


def test_only_where_a_class_has_few_images_and_they_are_likelier_for_it(
    network: RetrievalViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = Learner(network, replace(BARE, plenty=6))
    few, many = (discs("t", RED_AND_BLUE, per_class, seed=0) for per_class in (5, 6))
    start = learner.start()
    assert learner.taken(start, many).as_asked
    surprises = {True: 1.0, False: 0.5}  # of what they look like, and of what they are on average
    monkeypatch.setattr(learner, "surprise_of", lambda _, taken: surprises[taken.as_asked])
    assert learner.taken(start, few).taught.equal(learner.looked(start.pools, few))
    surprises[True] = 0.5
    assert learner.taken(start, few).as_asked


def test_one_image_a_class_cannot_judge_and_teaches_what_it_looks_like(network: RetrievalViT) -> None:
    learner = Learner(network, BARE)
    assert learner.taken(learner.start(), discs("t", RED_AND_BLUE, per_class=1, seed=0)).as_asked


def test_the_fast_version_knows_what_they_look_like_and_the_consolidated_one_both(
    network: RetrievalViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, task = Learner(network, BARE), discs("t", RED_AND_BLUE, per_class=5, seed=0)
    monkeypatch.setattr(learner, "surprise_of", lambda _, taken: float(taken.as_asked))
    start, looks = learner.start(), []
    looked = learner.looked

    def counted(*arguments: object) -> Tensor:
        looks.append(arguments)
        return looked(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(learner, "looked", counted)
    fast = learner.learn_fast(start, task)
    assert not looks
    slow = learner.consolidate(start, task)
    assert len(looks) == 1
    assert slow.tasks == ("t",)
    assert slow.images == fast.images == 10
    expected = torch.stack(
        [looked(start.pools, task)[:5].mean(dim=0), looked(start.pools, task)[5:].mean(dim=0)]
    )
    torch.testing.assert_close(slow.features.means, expected.double())
    assert not torch.allclose(slow.features.means, fast.features.means)


def test_classes_that_differ_in_size_alone_are_not_taken_for_each_other(network: RetrievalViT) -> None:
    """Rings of two widths: looks from nearer would make the one the other."""
    ring = {
        label: torch.tensor([(i // width) % 2 * 255 for i in range(PX)]).expand(3, PX, PX).to(torch.uint8)
        for label, width in (("thin", 1), ("wide", 2))
    }
    noise = torch.randint(-20, 20, (20, 3, PX, PX), generator=torch.Generator().manual_seed(0))
    labels = ("thin",) * 10 + ("wide",) * 10
    pixels = (torch.stack([ring[label] for label in labels]) + noise).clamp(0, 255).to(torch.uint8)
    task = Task("t", pixels, labels)
    learner = Learner(network, BARE)
    state = learner.consolidate(learner.start(), task)
    assert accuracy(learner, state, task) == 1
