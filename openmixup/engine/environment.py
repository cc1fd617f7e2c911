"""What a result depends on besides its config: versions, hardware, commit."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

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
    """One line: the accelerator, or the processor and the number of threads in use."""
    if torch.cuda.is_available():
        return f'{torch.cuda.get_device_name()} x {torch.cuda.device_count()}'
    name = platform.processor() or platform.machine()
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), name)
    return f'CPU {name}, {torch.get_num_threads()} threads'


def commit() -> str:
    """Commit of the checkout that the package runs from, '+' behind it if files differ; '' outside a checkout."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(['git', '-C', str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ''

    if not (root / '.git').exists():
        return ''
    # results grow while a table is run; they change no code
    changed = git('status', '--porcelain', '--untracked-files=no', '--', ':!benchmarks/results')
    return git('rev-parse', '--short=10', 'HEAD') + ('+' if changed else '')


def environment() -> dict[str, Any]:
    """All of it, with the command line."""
    return {'versions': versions(), 'hardware': hardware(), 'commit': commit(), 'command': sys.argv}
