"""The training objective: L = L_cls + lambda_orth sum_l |K K^T - I|^2 + lambda_ent sum_l,t H(S_t).

HippoTune's three terms. The classification term is plain cross-entropy over the classes of the task at hand and
stands in the learner; the other two shape retrieval: keys that point apart, and steps that choose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.deliberation import Recall


def orthogonality(old_keys: Tensor, new_keys: Tensor) -> Tensor:
    """sum over layers of |K K^T - I_M|^2 as far as new keys enter it; old [L, M, d], new [L, m, d] unit rows -> [].

    The block of old keys against old keys is left out: it is a constant, and M x M.
    """
    slots = new_keys.shape[1]
    among = new_keys @ new_keys.mT - torch.eye(slots, device=new_keys.device)  # [L, m, m]
    across = new_keys @ old_keys.mT  # [L, m, M], twice in the symmetric matrix
    return among.square().sum() + 2 * across.square().sum()


def entropy(weights: Tensor) -> Tensor:
    """H(S) in nats of retrieval weights [..., k] that sum to one -> [...]."""
    return torch.special.entr(weights).sum(dim=-1)


def retrieval_entropy(recalls: list[Recall]) -> Tensor:
    """sum over layers and steps of H(S_t), averaged over the batch -> []."""
    return torch.stack([entropy(layer.weights).mean(dim=0).sum() for layer in recalls]).sum()
