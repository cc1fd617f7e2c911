"""Where a run writes: the work dir and the room for its checkpoints."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from openmixup.analysis.doctor.report import Finding, size_text
from openmixup.engine.checkpoint import checkpoint_bytes, checkpoint_files
from openmixup.engine.resume import run_state

__all__ = ['disk', 'work_dir']


def work_dir(place: Path) -> Iterator[Finding]:
    """Whether the work dir can be written; it is not made."""
    existing = existing_folder(place)
    values = {'path': str(place)}
    try:
        with tempfile.TemporaryFile(dir=existing) as stream:
            stream.write(b'-')
    except OSError as error:
        found = f'{place} cannot be written ({error.strerror})'
        yield Finding('work dir', 'FAIL', found, 'a folder of yours', 'choose another --work-dir', values)
        return
    old = len(checkpoint_files(place)) if place.is_dir() else 0
    note = f', {old} checkpoints of an earlier run will be moved aside' if old else ''
    yield Finding('work dir', 'ok', f'{place} can be written{note}', values=values)


def existing_folder(place: Path) -> Path:
    """``place``, or the nearest folder or file above it that exists."""
    return next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())


def disk(runner: Any, place: Path, keep: int | None) -> Iterator[Finding]:
    """Free space against the checkpoints that a run has at once: those kept, the best, and the one being written."""
    if keep is None:
        yield Finding('disk', 'ok', 'the config saves no checkpoints')
        return
    optimizer = runner.optim_wrapper.optimizer
    if not optimizer.state:  # no step was tried: an update by nothing makes what a checkpoint holds of it
        for group in optimizer.param_groups:
            for parameter in group['params']:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
    size = checkpoint_bytes(run_state(runner))
    free, need = shutil.disk_usage(existing_folder(place)).free, (keep + 2) * size
    level = 'FAIL' if free < need else 'warn' if free < 2 * need else 'ok'
    found = f'{size_text(free)} free for {keep + 2} checkpoints of {size_text(size)}'
    expected = f'{size_text(need)}, better twice that'
    remedy = 'make room, choose another --work-dir, or lower default_hooks.checkpoint.keep'
    yield Finding('disk', level, found, expected, remedy, {'free': free, 'checkpoint': size, 'keep': keep})
