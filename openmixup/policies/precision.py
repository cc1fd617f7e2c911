"""Parts whose arithmetic must not depend on the precision of the training step."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ['arithmetic']


def arithmetic(device: torch.device, dtype: torch.dtype = torch.float32) -> AbstractContextManager[object]:
    """A context in which ``torch.autocast`` computes in ``dtype``; with float32 it is switched off.

    A device that knows no autocast, such as meta, is left as it is.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    if dtype == torch.float32:
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=dtype)
