"""Parts that must be computed in full precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ['full_precision']


def full_precision(device: torch.device) -> AbstractContextManager:
    """A context without autocast; the meta device knows none."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
