"""Files that a run writes, and what is said when the disk does not take them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.registry import OPTIMIZERS

__all__ = ['check_space', 'checkpoint_bytes', 'saving', 'shown_bytes', 'tensor_bytes', 'write_text']


def shown_bytes(count: float) -> str:
    """``'12.3 MB'``: a number of bytes for people."""
    for unit in ('bytes', 'kB', 'MB', 'GB'):
        if count < 1000:
            return f'{count:.0f} {unit}' if unit == 'bytes' else f'{count:.1f} {unit}'
        count /= 1000
    return f'{count:.1f} TB'


def tensor_bytes(content: Any) -> int:
    """Bytes of all tensors in nested dicts, lists and tuples: nearly all that a checkpoint of them needs."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        return sum(tensor_bytes(value) for value in content.values())
    return sum(tensor_bytes(value) for value in content) if isinstance(content, list | tuple) else 0


@contextmanager
def saving(
    path: Path, needed: int | None = None, remedy: str = 'make room or choose another --work-dir'
) -> Iterator[None]:
    """Tell a failed write of ``path`` inside in one sentence.

    Args:
        path: the file that is written.
        needed: its size in bytes, if known.
        remedy: what the user can do.

    Raises:
        InputError: the system refused the write: no space, no permission, a read-only or failing disk.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = _refusal(error)
        if cause is None:
            raise
        size = '' if needed is None else f'it needs {shown_bytes(needed)}, '
        raise InputError(
            f'{path} could not be written ({cause.strerror or type(cause).__name__}; {size}'
            f'{_shown_free(path.parent)}): {remedy}; what was saved before is untouched.'
        ) from error


def _refusal(error: BaseException | None) -> OSError | None:
    """The refusal of the system behind ``error``: torch's writer puts an error of its own before it."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _shown_free(folder: Path) -> str:
    try:
        return f'{shown_bytes(shutil.disk_usage(folder).free)} are free'
    except OSError:
        return f'{folder} is not there'


def write_text(path: Path, text: str, **options: Any) -> None:
    """Write a text whole or not at all, by way of a temporary file beside it.

    Args:
        path: the file.
        text: its new content.
        **options: as for :func:`saving`.

    Raises:
        InputError: it cannot be written; the old file is untouched, and no temporary one is left.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    with saving(path, len(text.encode()), **options):
        try:
            temporary.write_text(text, encoding='utf-8')
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def checkpoint_bytes(runner: Any, learner: Any) -> tuple[int, int]:
    """Estimated bytes of a checkpoint of the run, and of the weights alone.

    Weights, the optimizer's state, which does not exist before the first step, and gradients that are half accumulated
    are counted; a policy's history is not.
    """
    weights = tensor_bytes(learner.state_dict())
    trained = tensor_bytes([parameter for group in runner.optim_wrapper.param_groups for parameter in group['params']])
    copies = _copies(runner.cfg.get('optim_wrapper')) + (runner.optim_wrapper._accumulative_counts > 1)
    return weights + round(copies * trained), weights


def _copies(config: Any) -> float:
    """How many times the size of the weights an optimizer keeps beside them, tried on a matrix."""
    size = 64
    weight = torch.zeros(size, size, requires_grad=True)
    weight.grad = torch.zeros(size, size)
    try:
        optimizer = OPTIMIZERS.build({**config['optimizer'], 'params': [weight]})
        optimizer.step()
    except Exception:  # one that wants more than a gradient: as much as Adam keeps
        return 2.0
    return tensor_bytes(list(optimizer.state.values())) / tensor_bytes(weight)


def check_space(runner: Any, learner: Any, keep: int, best: bool, there: int = 0) -> None:
    """Refuse to begin a run whose checkpoints the disk cannot hold.

    Needed are ``keep`` checkpoints and the one that is written before the oldest goes, and that of the best weights.
    File systems that do not tell their size are not asked.

    Args:
        runner: the runner.
        learner: the learner without a wrapper.
        keep: number of periodic checkpoints that stay.
        best: whether the best weights are kept too.
        there: bytes of checkpoints of this run that are there already, and will go.

    Raises:
        InputError: less is free than that.
    """
    one, weights = checkpoint_bytes(runner, learner)
    needed = (keep + 1) * one + best * weights - there
    disk = shutil.disk_usage(runner.work_dir)
    if disk.total and disk.free < needed:
        raise InputError(
            f'{runner.work_dir} has {shown_bytes(disk.free)} free, but the checkpoints of this run need about '
            f'{shown_bytes(needed)} ({keep + 1} of {shown_bytes(one)}'
            f'{f" and the best weights with {shown_bytes(weights)}" if best else ""}): make room, choose another '
            '--work-dir or lower default_hooks.checkpoint.keep.'
        )
