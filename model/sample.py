"""A version made of random numbers, for measurements in which its size matters and not what it knows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from model.backbone import Backbone
from model.checkpoint import Checkpoint
from model.covariances import DIRECTIONS, ClassCovariances
from model.deliberation import LoopConfig
from model.familiarity import PROBED, Familiarity
from model.head import Head
from model.pools import Pools
from model.usual import AXES


def sample_pools(loop: LoopConfig, dim: int, slots: int, random: torch.Generator) -> Pools:
    """Random unit keys and values of `slots` slots a layer, `dim` channels each; feedback as at birth."""
    shape = len(loop.layers), slots, dim
    return Pools(
        F.normalize(torch.randn(shape, generator=random), dim=-1),
        torch.randn(shape, generator=random),
        torch.eye(dim).repeat(len(loop.layers), 1, 1),
        ("sample",) * slots,
    )


def sample_familiarity(width: int, classes: int, random: torch.Generator) -> Familiarity:
    """A measure of features of so many channels, to which some images are familiar and others are not."""
    along = min(AXES, max(classes - 1, 1))
    return Familiarity(
        origin=torch.zeros(width),
        axes=torch.randn(width, along, generator=random) / along**0.5,
        probes=torch.randn(width, PROBED, generator=random) / PROBED**0.5,
        centres=torch.randn(classes, along, generator=random) / along**0.5,
        allowances=torch.zeros(classes),
        widths=torch.ones(classes),
        unexplained=torch.full((along,), 0.5),
        usual=torch.tensor([[0.0, 1.0], [0.0, 1.0]]),
    )


def sample_version(
    backbone: Backbone, loop: LoopConfig, slots: int = 100, classes: int = 100, seed: int = 0
) -> Checkpoint:
    """Random pools and a random head; unless told otherwise of the size that ten tasks leave behind."""
    random = torch.Generator().manual_seed(seed)
    pools = sample_pools(loop, backbone.dim, slots, random)
    directions = torch.randn(classes, DIRECTIONS, backbone.width, generator=random)
    covariances = ClassCovariances(directions, torch.zeros(classes, DIRECTIONS))
    head = Head(
        torch.randn(backbone.width, classes, generator=random),
        torch.zeros(classes),
        covariances=covariances,
        familiarity=sample_familiarity(backbone.width, classes, random),
    )
    return Checkpoint(backbone.identity, loop, pools, head, tuple(map(str, range(classes))))
