"""What a result depends on besides its config: versions, hardware, commit."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

__all__ = ['commit', 'environment', 'hardware', 'versions']

PACKAGES = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv-lite', 'numpy')


def versions() -> dict[str, str]:
    """Versions of Python and the packages that a result depends on."""
    found = {'python': platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = 'not installed'
    return found


def hardware() -> str:
    """One line: the GPUs of this run, one a process; without any the processor and the threads in use."""
    distributed = dist.is_available() and dist.is_initialized()
    processes = dist.get_world_size() if distributed else 1
    if torch.cuda.is_available():
        return f'{torch.cuda.get_device_name()} x {processes}'
    name = platform.processor() or platform.machine()
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), name)
    return f'CPU {name}, {torch.get_num_threads()} threads' + (f' x {processes} processes' if processes > 1 else '')


def commit() -> str:
    """Commit of the checkout that the package runs from, '+' behind it if files differ; '' if unknown."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(['git', '-C', str(root), *arguments], capture_output=True, text=True, check=False)
        except OSError:  # no such program here
            return ''
        return done.stdout.strip() if done.returncode == 0 else ''

    if not (root / '.git').exists():
        return ''
    # results grow while a table is run; they change no code
    changed = git('status', '--porcelain', '--untracked-files=no', '--', ':!benchmarks/results')
    return git('rev-parse', '--short=10', 'HEAD') + ('+' if changed else '')


def environment() -> dict[str, Any]:
    """All of it, with the command line."""
    return {'versions': versions(), 'hardware': hardware(), 'commit': commit(), 'command': sys.argv}
