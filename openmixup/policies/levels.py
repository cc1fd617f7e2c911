"""Normalised images as levels of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.context import Context

__all__ = ['check_normalisation', 'level_range']


def check_normalisation(policy: str, mean: Any, std: Any) -> None:
    """Refuse what is neither one number per channel in each, ``std`` above 0, nor None for both.

    Raises:
        InputError: that; it names ``policy``.
    """
    if mean is None and std is None:
        return
    given = [list(values) if isinstance(values, Sequence) else [] for values in (mean, std)]
    numbers = all(is_number(value) for values in given for value in values)
    if not numbers or not given[0] or len(given[0]) != len(given[1]) or not all(value > 0 for value in given[1]):
        raise InputError(
            f'{policy}(mean={mean!r}, std={std!r}): expected one number per channel in each, std above 0, or None for '
            'both.'
        )


def level_range(
    policy: str, images: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None, ctx: Context
) -> tuple[Tensor, Tensor]:
    """Value of level 0 and what lies between it and level 255, as (C, 1, 1) on the CPU or (N, 1, 1, 1), float32.

    They follow from the normalisation; where it is not known, the lowest and the highest value of each image take
    their places.

    Args:
        policy: its name, for messages.
        images: (N, C, H, W), normalised.
        mean: of the normalisation, per channel in units of 0..1; None: what ``ctx`` says.
        std: the same.
        ctx: of the step.

    Raises:
        InputError: ``mean`` has not one number for each channel.
    """
    channels = images.shape[1]
    if mean is not None and len(mean) != channels:
        raise InputError(
            f'{policy} has mean and std of {len(mean)} channels, but the images have {channels}: give one number of '
            'each per channel.'
        )
    mean, std = (ctx.mean, ctx.std) if mean is None or std is None else (mean, std)
    if len(mean) == len(std) == channels:
        by = 1 / torch.tensor(std, dtype=torch.float64)[:, None, None]
        return (-torch.tensor(mean, dtype=torch.float64)[:, None, None] * by).float(), by.float()
    values = images.detach().float()
    low = values.amin((1, 2, 3), keepdim=True)
    return low, (values.amax((1, 2, 3), keepdim=True) - low).clamp_min_(torch.finfo(torch.float32).tiny)
