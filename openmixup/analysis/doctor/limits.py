"""How many cores and how much memory this process may use, which is less than the machine has in a container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ['available_memory', 'cores', 'quota']

ROOT = Path('/')


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the control groups of this process, of version 1 or 2, the innermost first."""
    try:
        lines = (root / 'proc/self/cgroup').read_text().splitlines()
    except OSError:  # another system
        return
    for line in lines:
        _, controllers, place = line.split(':', 2)
        if controllers and controller not in controllers.split(','):
            continue
        for base in {controllers, controller} if controllers else {''}:
            top = root / 'sys/fs/cgroup' / base
            folder = top / place.lstrip('/')
            yield folder
            while folder != top:
                folder = folder.parent
                yield folder


def _number(path: Path, place: int = 0) -> float | None:
    """A number of a file of a control group; None where there is no limit, or no such file."""
    try:
        return float(path.read_text().split()[place])
    except (OSError, ValueError, IndexError):
        return None


def quota(root: Path = ROOT) -> float | None:
    """Cores' worth of time that the control groups grant; None: no limit.

    Args:
        root: where the file systems proc and sys are.
    """
    shares = []
    for folder in _groups('cpu', root):
        for limit, period in (
            (_number(folder / 'cpu.max'), _number(folder / 'cpu.max', 1)),
            (_number(folder / 'cpu.cfs_quota_us'), _number(folder / 'cpu.cfs_period_us')),
        ):
            if limit is not None and period and limit > 0:
                shares.append(limit / period)
    return min(shares, default=None)


def affinity() -> int:
    """Cores that the scheduler may give to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def cores(root: Path = ROOT) -> int:
    """Cores that this process can keep busy: those of its affinity, or less by the quota."""
    granted = quota(root)
    return affinity() if granted is None else max(1, min(affinity(), math.ceil(granted)))


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes of memory that can be taken without swapping or being killed; None if unknown.

    Args:
        root: where the file systems proc and sys are.
    """
    found = []
    try:
        lines = (root / 'proc/meminfo').read_text().splitlines()
        found += [1024 * float(line.split()[1]) for line in lines if line.startswith('MemAvailable:')]
    except OSError:  # another system
        pass
    for folder in _groups('memory', root):
        for most, used, cached in (
            ('memory.max', 'memory.current', 'inactive_file'),
            ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
        ):
            limit, usage = _number(folder / most), _number(folder / used)
            if limit is not None and usage is not None:
                found.append(limit - usage + _entry(folder / 'memory.stat', cached))
    return int(min(found)) if found else None


def _entry(path: Path, name: str) -> float:
    """The value behind ``name`` in a file of names and numbers; 0 if there is none."""
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return next((float(pair[1]) for pair in pairs if pair[0] == name), 0.0)
    except (OSError, ValueError, IndexError):
        return 0.0
