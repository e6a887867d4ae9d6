"""What a server needs to answer, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.backbone import Backbone, BackboneIdentity
from model.covariances import ClassCovariances
from model.deliberation import LoopConfig
from model.familiarity import Familiarity
from model.head import Head
from model.pools import Pools

LARGEST = 1e15
"""Numbers beyond could overflow where the network squares them; with smaller ones scores are probabilities."""


class InvalidCheckpoint(ValueError):
    """The file is damaged, is no checkpoint, or belongs to another backbone; the message says which."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Pools, head and label names learned on top of one backbone. labels: [C], in the order of the head's columns."""

    identity: BackboneIdentity
    loop: LoopConfig
    pools: Pools
    head: Head
    labels: tuple[str, ...]

    @classmethod
    def empty(cls, backbone: Backbone, loop: LoopConfig) -> Checkpoint:
        """Knows no class."""
        head = Head.blank(backbone.width)
        return cls(backbone.identity, loop, Pools.empty(loop, backbone.dim), head, ())

    @property
    def space(self) -> str:
        """See `feature_space`."""
        return feature_space(self.identity, self.loop, self.pools)

    def save(self, path: Path) -> None:
        """Write one file. The caller makes it durable and gives it its final name. Raises OSError."""
        tensors, facts = taken_apart(self.loop, self.pools, self.head)
        facts |= {"identity": asdict(self.identity), "labels": self.labels}
        write_tensors(path, tensors, facts)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read and check a file. Raises InvalidCheckpoint, and OSError where there is none."""
        tensors, facts = read_tensors(path)
        try:
            identity = BackboneIdentity(**facts["identity"])
            checkpoint = cls(identity, *put_together(tensors, facts), tuple(facts["labels"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidCheckpoint(f"{path.name} is no HippoTune checkpoint: {error}") from error
        checkpoint.check()
        return checkpoint

    def check(self) -> None:
        """Raise InvalidCheckpoint when parts do not fit each other or hold numbers that could not answer."""
        head = self.head
        classes, weight, bias = len(self.labels), tuple(head.weight.shape), tuple(head.bias.shape)
        if len(weight) != 2 or (weight[1:], bias) != ((classes,), (classes,)):
            raise InvalidCheckpoint(f"head of weight {weight} and bias {bias} for {classes} labels")
        for part, told in ((head.covariances, "spread of classes"), (head.familiarity, "familiarity")):
            if part is not None and not part.fits(*head.weight.shape):
                raise InvalidCheckpoint(
                    f"the {told} is not of the classes or the numbers that the head reads"
                )
        tensors, _ = taken_apart(self.loop, self.pools, head)
        if others := {str(part.dtype) for part in tensors.values() if not part.is_floating_point()}:
            raise InvalidCheckpoint(f"a tensor is of {', '.join(sorted(others))}")
        squared = (
            abs(head.sharpness) * largest(part) if name.startswith("head.") else largest(part)
            for name, part in tensors.items()
        )
        if not all(most <= LARGEST for most in squared):  # false of NaN, too
            raise InvalidCheckpoint("a tensor holds NaN, infinity, or a number too large to square")

    def check_fits(self, backbone: Backbone) -> None:
        """Raise InvalidCheckpoint unless it was learned on exactly this backbone, and on as much as is read of it."""
        if self.identity != backbone.identity:
            raise InvalidCheckpoint(
                f"learned on {self.identity}, but the backbone here is {backbone.identity}"
            )
        if (channels := self.pools.keys.shape[-1]) != backbone.dim:
            raise InvalidCheckpoint(
                f"its slots have {channels} channels, but the backbone here has {backbone.dim}"
            )
        if (read := len(self.head.weight)) != backbone.width:
            raise InvalidCheckpoint(
                f"its head reads {read} numbers of an image, but the backbone here gives {backbone.width}"
            )

    def to(self, device: torch.device | str) -> Checkpoint:
        return Checkpoint(self.identity, self.loop, self.pools.to(device), self.head.to(device), self.labels)


def largest(tensor: Tensor) -> float:
    """The largest absolute value, 0 where there is none; NaN where one is.

    In numpy, on the caller's thread alone: torch wakes a team, which then waits busily while passes want the cores.
    """
    values = tensor.detach().cpu().float().numpy()  # numpy knows no bfloat16
    return max(float(values.max(initial=0)), -float(values.min(initial=0)))


def feature_space(identity: BackboneIdentity, loop: LoopConfig, pools: Pools) -> str:
    """A hash of all that makes a feature of an image. Features of two spaces must not be mixed."""
    digest = hashlib.sha256(json.dumps([asdict(identity), asdict(loop)], sort_keys=True).encode())
    for tensor in (pools.keys, pools.values, pools.feedback):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def taken_apart(loop: LoopConfig, pools: Pools, head: Head) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Loop, pools and head as `write_tensors` takes them."""
    tensors = {
        "pools.keys": pools.keys,
        "pools.values": pools.values,
        "pools.feedback": pools.feedback,
        "head.weight": head.weight,
        "head.bias": head.bias,
    }
    if head.covariances is not None:
        tensors |= {f"head.{name}": part for name, part in head.covariances.parts().items()}
    if head.familiarity is not None:
        tensors |= {f"familiarity.{name}": part for name, part in head.familiarity.parts().items()}
    return tensors, {"loop": asdict(loop), "slot_tasks": pools.slot_tasks, "sharpness": head.sharpness}


def put_together(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> tuple[LoopConfig, Pools, Head]:
    """The inverse of `taken_apart`. Raises KeyError, TypeError and ValueError for parts that are missing or misfit."""
    loop = LoopConfig.of(facts["loop"])
    pools = Pools(
        tensors["pools.keys"], tensors["pools.values"], tensors["pools.feedback"], tuple(facts["slot_tasks"])
    )
    if len(pools.keys) != len(loop.layers):
        raise ValueError(f"pools of {len(pools.keys)} layers for a loop over {len(loop.layers)}")
    covariances = None
    if "head.directions" in tensors:
        covariances = ClassCovariances(*(tensors[f"head.{part.name}"] for part in fields(ClassCovariances)))
    familiarity = None
    if "familiarity.usual" in tensors:
        # Versions from before widths were measured take all classes for equally wide.
        known = {"familiarity.widths": torch.ones_like(tensors["familiarity.allowances"]), **tensors}
        familiarity = Familiarity(*(known[f"familiarity.{part.name}"] for part in fields(Familiarity)))
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    return loop, pools, Head(weight, bias, float(facts["sharpness"]), covariances, familiarity)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """One safetensors file: named tensors, and JSON facts in its header. Raises OSError."""
    plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(plain, path, {"facts": json.dumps(facts)})
    except SafetensorError as error:  # what the disk refuses comes in this type
        raise OSError(f"{path.name} cannot be written: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `write_tensors`. Raises OSError where there is none, InvalidCheckpoint for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InvalidCheckpoint(f"{path.name} cannot be read: {error}") from error
