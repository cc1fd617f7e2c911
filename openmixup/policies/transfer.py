"""One copy from the host to the device for everything that was drawn on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['to_device']


def to_device(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """``tensors`` on ``device``; those that lie there already stay as they are.

    For an accelerator they travel in one buffer, pinned and without waiting, since each separate copy costs a launch
    and an unpinned one stops the host until the device has caught up.
    """
    if device.type == 'cpu':
        return tensors
    if device.type != 'cuda':
        return tuple(tensor.to(device) for tensor in tensors)
    host = [tensor for tensor in tensors if not tensor.is_cuda]
    if len(host) < len(tensors):
        moved = iter(to_device(device, *host))
        return tuple(tensor if tensor.is_cuda else next(moved) for tensor in tensors)
    starts, end = [], 0
    for tensor in tensors:
        starts.append(end)
        end += -(-tensor.numel() * tensor.element_size() // 8) * 8  # views of the buffer must be aligned
    buffer = torch.empty(end, dtype=torch.uint8, pin_memory=True)
    for tensor, start in zip(tensors, starts, strict=True):
        _part(buffer, tensor, start).copy_(tensor)
    there = buffer.to(device, non_blocking=True)
    return tuple(_part(there, tensor, start) for tensor, start in zip(tensors, starts, strict=True))


def _part(buffer: Tensor, like: Tensor, start: int) -> Tensor:
    size = like.numel() * like.element_size()
    return buffer[start : start + size].view(like.dtype).view(like.shape)
