"""Where tensors live."""

from __future__ import annotations

import torch


def pick_device(name: str | None) -> torch.device:
    """The device of this name, else a GPU where there is one. Raises ValueError for one that cannot be used here."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        raise ValueError(f"device is {name!r}, which cannot be used here: {reason}") from error
    return device
