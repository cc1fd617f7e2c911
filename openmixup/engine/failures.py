"""What ends a run, or sends it back, from the inside of a loop: too little memory, and values that are not finite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from openmixup.engine.distributed import learner_of
from openmixup.errors import InputError

__all__ = ['Rollback', 'memory_errors', 'out_of_memory']

_MARKS = ('DefaultCPUAllocator', 'not enough memory', 'out of memory', 'ALLOC_FAILED')


class Rollback(InputError):
    """Raised inside a training loop to send the run back to its newest checkpoint; the loop catches it.

    Where no loop can catch it, it ends the run with its sentence.
    """


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory was not enough, that of a GPU or that of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _MARKS)


@contextmanager
def memory_errors(runner: Any, part: str) -> Iterator[None]:
    """Tell in one sentence that the memory was not enough inside, and what to change.

    Args:
        runner: the runner.
        part: 'train', 'val' or 'test', which names the loader in the sentence.

    Raises:
        InputError: the memory was not enough; the original error is its cause.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(_sentence(runner, part, str(error))) from error


def _sentence(runner: Any, part: str, text: str) -> str:
    key = f'{part}_dataloader.batch_size'
    size = getattr(runner, f'_{part}_dataloader')['batch_size']
    asked = re.search(r'[Tt]ried to allocate ([\d.]+ \w+)', text)
    missing = f', which asked for {asked[1]} more' if asked else ''
    device = next(learner_of(runner).parameters()).device
    if part != 'train':
        return (
            f'the memory of {device} was not enough for an evaluation with {key}={size}{missing}: lower {key}, which '
            'changes no result.'
        )
    wrapper = runner.optim_wrapper
    counts = getattr(wrapper, '_accumulative_counts', 1)
    amp = '' if hasattr(wrapper, 'scaler') else ', or use mixed precision (--amp)'
    return (
        f'the memory of {device} was not enough for a training step with {key}={size} and the policy '
        f'{learner_of(runner).policy!r}{missing}: lower {key} and raise optim_wrapper.accumulative_counts={counts} by '
        f'the same factor{amp}.'
    )
