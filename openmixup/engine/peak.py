"""The most memory that a process, or a device, had in use."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import torch

__all__ = ['read', 'restart']

STATUS, CLEAR = Path('/proc/self/status'), Path('/proc/self/clear_refs')


def _of_process(name: str) -> int | None:
    """A line of the kernel's account of this process, in bytes."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:  # another system
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f'{name}:')), None)


def restart(device: torch.device) -> int:
    """Forget the peak so far; returns the bytes in use now."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with contextlib.suppress(OSError):  # not allowed everywhere: then the peak since the process began is read
        CLEAR.write_text('5')
    return _of_process('VmRSS') or 0


def read(device: torch.device) -> int:
    """Bytes in use at the peak since :func:`restart`, or since the process began.

    On Linux ``ru_maxrss`` would not do: a process begins with the peak of the one that started it.
    """
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == 'darwin' else 1024
    return _of_process('VmHWM') or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
