"""Is the loop what its theory says? `python -m benchmarks.krylov --out benchmarks/results/krylov.json`.

The paper reads the loop as an iterative solver: steps approach a fixed point of F(q) = LN(alpha q + (1 - alpha)
LN(P S(q) V)), and T of them give a polynomial of degree T - 1 that approximates a second-order step. With the Jacobian
J of F at the seed query q_1 and the first step b = F(q_1) - q_1, that step is Newton's, x = (I - J)^-1 b, and what
the loop does of it is the truncated Neumann series x_T = b + J b + ... + J^(T-1) b. I - J is the Hessian of some energy
only where J is symmetric. Measured on trained pools and test images, layer by layer:

* residual |F(q_t) - q_t| / |q_t| along the real, nonlinear recursion, and whether it ever settles;
* spectral radius of J, by all its eigenvalues, at q_1 and where the loop ends;
* asymmetry |J - J^T| / |J|, 0 for the Hessian of an energy and about sqrt(2) for a matrix without any symmetry;
* relative error |x_T - x| / |x| as T grows, beside the least any polynomial of that degree can reach (the distance of x
  from the Krylov space of b, J b, ..., J^(T-1) b) and beside what the nonlinear loop did, q_T+1 - q_1;
* what the exact second-order step is worth: the residual after it, over the residual before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from benchmarks.continual.methods import RECIPES
from benchmarks.continual.methods.base import Setting
from benchmarks.continual.methods.hippotune import HippoTune
from benchmarks.continual.protocols import QUICK, Protocol
from benchmarks.continual.runner import configure, stream
from benchmarks.machine import keep
from model.backbone import load_backbone
from model.budget import BudgetBatch
from model.diagnostics import step_of
from model.spec import BackboneSpec
from trainer.learning.task import Task

Step = Callable[[Tensor], Tensor]
"""F: queries [B, d] to queries [B, d]."""

TERMS = (1, 2, 3, 4, 6, 8, 16)
LONG = 64
"""Steps after which a recursion that still moves is said not to settle."""
SETTLED = 1e-3


@dataclass(frozen=True)
class LayerTheory:
    """One layer; medians over queries, unless said otherwise.

    residual: after t = 1, 2, 4, 8, 16, 64 steps.  settles: share of queries whose residual is below 1e-3 after 64.
    radius_first, radius_last: of J at q_1 and after 64 steps.  contracts: share of queries with radius_first below 1.
    asymmetry: at q_1.  neumann, krylov, loop: relative errors for each T of `TERMS`.
    newton: residual after the exact second-order step over the one before; above 1 the step leads away.
    """

    layer: int
    residual: tuple[float, ...]
    settles: float
    radius_first: float
    radius_last: float
    contracts: float
    asymmetry: float
    neumann: tuple[float, ...]
    krylov: tuple[float, ...]
    loop: tuple[float, ...]
    newton: float


def on_rows(step: Step) -> Step:
    """A step of queries [B, 1, d] as one of rows [B, d], whose Jacobians are plain matrices."""
    return lambda query: step(query.unsqueeze(1)).squeeze(1)


def examine(layer: int, step: Step, first: Tensor) -> LayerTheory:
    """All figures of one layer for seed queries q_1 [B, d]."""
    path = [first]
    for _ in range(LONG):
        path.append(step(path[-1]))
    residuals = torch.stack([relative(b - a, a) for a, b in pairwise(path)])  # [64, B]
    jacobian = vmap(jacrev(lambda q: step(q.unsqueeze(0))[0]))(first)  # [B, d, d]
    change = path[1] - first  # b, [B, d]
    newton = torch.linalg.solve(torch.eye(first.shape[1]) - jacobian, change)  # [B, d]
    radius = radii(jacobian)
    last = radii(vmap(jacrev(lambda q: step(q.unsqueeze(0))[0]))(path[-1]))
    there = first + newton
    return LayerTheory(
        layer=layer,
        residual=tuple(residuals[t - 1].median().item() for t in (1, 2, 4, 8, 16, LONG)),
        settles=(residuals[-1] < SETTLED).float().mean().item(),
        radius_first=radius.median().item(),
        radius_last=last.median().item(),
        contracts=(radius < 1).float().mean().item(),
        asymmetry=asymmetry(jacobian).median().item(),
        neumann=tuple(relative(p - newton, newton).median().item() for p in partial_sums(jacobian, change)),
        krylov=tuple(error.median().item() for error in best_errors(jacobian, change, newton)),
        loop=tuple(relative(path[t] - first - newton, newton).median().item() for t in TERMS),
        newton=(relative(step(there) - there, there) / relative(change, first)).median().item(),
    )


def relative(difference: Tensor, whole: Tensor) -> Tensor:
    """|difference| / |whole|, both [B, d] -> [B]."""
    return difference.norm(dim=1) / whole.norm(dim=1).clamp_min(1e-30)


def radii(jacobian: Tensor) -> Tensor:
    """[B, d, d] -> [B], the largest |eigenvalue|."""
    return torch.linalg.eigvals(jacobian).abs().amax(dim=1)


def asymmetry(jacobian: Tensor) -> Tensor:
    """|J - J^T| / |J| [B, d, d] -> [B]."""
    return (jacobian - jacobian.mT).flatten(1).norm(dim=1) / jacobian.flatten(1).norm(dim=1).clamp_min(1e-30)


def powers(jacobian: Tensor, change: Tensor) -> Tensor:
    """b, J b, ..., J^(T-1) b for the longest T: [B, T, d]."""
    terms = [change]
    for _ in range(max(TERMS) - 1):
        terms.append((jacobian @ terms[-1].unsqueeze(-1)).squeeze(-1))
    return torch.stack(terms, dim=1)


def partial_sums(jacobian: Tensor, change: Tensor) -> list[Tensor]:
    """x_T [B, d] for each T of `TERMS`."""
    sums = powers(jacobian, change).cumsum(dim=1)
    return [sums[:, t - 1] for t in TERMS]


def best_errors(jacobian: Tensor, change: Tensor, target: Tensor) -> list[Tensor]:
    """Distance of the target [B, d] from each Krylov space, over the target's length: [B] for each T of `TERMS`.

    In double precision: powers of one matrix soon point the same way.
    """
    basis = powers(jacobian, change).double()
    basis = basis / basis.norm(dim=2, keepdim=True).clamp_min(1e-30)
    errors = []
    for t in TERMS:
        space = basis[:, :t].mT  # [B, d, T]
        left, strength, _ = torch.linalg.svd(space, full_matrices=False)
        left = left * (strength > 1e-10 * strength[:, :1]).unsqueeze(1)  # directions that are there at all
        near = left @ (left.mT @ target.double().unsqueeze(-1))  # [B, d, 1]
        errors.append(relative(near.squeeze(-1) - target.double(), target.double()))
    return errors


def verdict(layers: list[LayerTheory], tmax: int) -> dict[str, str]:
    """What of the theory holds here, in words made from the figures."""
    count, place = len(layers), TERMS.index(tmax) if tmax in TERMS else TERMS.index(4)
    contract = sum(layer.contracts > 0.5 for layer in layers)
    settle = sum(layer.settles > 0.5 for layer in layers)
    better = sum(layer.neumann[place] < layer.neumann[0] for layer in layers)
    symmetric = sum(layer.asymmetry < 0.1 for layer in layers)
    worth = sum(layer.newton < 0.5 for layer in layers)
    near = sum(layer.loop[place] < 0.5 for layer in layers)
    return {
        "the second-order step at least halves the residual": f"holds in {worth} of {count} layers",
        f"{TERMS[place]} real steps get more than half way to it": f"holds in {near} of {count} layers",
        "contraction at the seed query": f"holds for most queries in {contract} of {count} layers",
        "a fixed point within 64 steps": f"reached by most queries in {settle} of {count} layers",
        "J symmetric, so that I - J is a Hessian": f"holds within 0.1 in {symmetric} of {count} layers",
        f"{TERMS[place]} terms nearer the second-order step than one": f"holds in {better} of {count} layers",
    }


def trained(protocol: Protocol, images: int) -> tuple[HippoTune, Tensor]:
    """Our method after the first task of a stream, and test images of that task."""
    backbone = load_backbone(BackboneSpec(protocol.backbone, protocol.weights, protocol.px))
    recipe = RECIPES["hippotune"]
    method = HippoTune(configure(recipe, protocol, 0, ()), Setting(backbone, 0, protocol.tasks))
    experience = stream(protocol, 0, joint=False, limit=1)[0]
    task = Task(experience.id, experience.train.pixels(protocol.px), experience.train.names)
    method.state = method.serving = method.learner.consolidate(method.state, task)
    return method, experience.test.pixels(protocol.px)[:images]


def theory(method: HippoTune, pixels: Tensor) -> list[LayerTheory]:
    """Every layer of a trained method, on the queries that test images raise there."""
    loop, pools = method.config.loop, method.serving.pools
    memories, width = pools.memories(loop), min(loop.topk, pools.slots)
    with torch.no_grad():
        found = method.learner.network(pixels, memories, BudgetBatch.repeat(loop.budget, len(pixels))).recalls
    return [
        examine(layer, on_rows(step_of(memory, loop, width)), recalled.queries[:, 0])
        for layer, memory, recalled in zip(loop.layers, memories, found, strict=True)
    ]


def main() -> None:
    """Train on the first task, examine, print, keep."""
    parse = argparse.ArgumentParser("python -m benchmarks.krylov")
    parse.add_argument("--folder", type=Path, default=QUICK.folder, help="where the archives are")
    parse.add_argument("--weights", type=Path, default=QUICK.weights)
    parse.add_argument("--images", type=int, default=64, help="test images whose queries are examined")
    parse.add_argument("--quick", action="store_true", help="ten training images a class, 8 test images")
    parse.add_argument("--out", type=Path)
    options = parse.parse_args()
    protocol = Protocol(folder=options.folder, weights=options.weights)
    if options.quick:
        protocol = replace(protocol, train_per_class=10)
    method, pixels = trained(protocol, 8 if options.quick else options.images)
    layers = theory(method, pixels)
    keep(
        {
            "command": "python -m benchmarks.krylov" + (" --quick" if options.quick else ""),
            "loop": asdict(method.config.loop),
            "slots": method.serving.pools.slots,
            "queries": len(pixels),
            "terms": TERMS,
            "layers": [asdict(layer) for layer in layers],
            "verdict": verdict(layers, method.config.loop.tmax),
        },
        options.out,
    )


if __name__ == "__main__":
    main()
