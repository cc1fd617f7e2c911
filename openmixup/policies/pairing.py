"""Who is mixed with whom."""

from __future__ import annotations

import torch
from torch import Tensor

from openmixup.errors import InputError, did_you_mean

__all__ = ['PAIRINGS', 'derangement', 'flip', 'partners', 'permutation']


def permutation(size: int, rng: torch.Generator) -> Tensor:
    """(N,) a uniformly drawn permutation; a sample may meet itself."""
    return torch.randperm(size, generator=rng)


def derangement(size: int, rng: torch.Generator) -> Tensor:
    """(N,) a uniformly drawn cycle through all samples: no sample meets itself (N > 1).

    Sattolo's cycles in closed form: each sample of a random order gets its successor. O(N), no retries.
    """
    order = torch.randperm(size, generator=rng)
    return torch.empty_like(order).index_copy_(0, order, order.roll(-1))


def flip(size: int, rng: torch.Generator) -> Tensor:  # noqa: ARG001  (one signature for all pairings)
    """(N,) the batch in reverse order, as timm pairs; the middle one of an odd batch meets itself."""
    return torch.arange(size - 1, -1, -1)


PAIRINGS = {'permutation': permutation, 'derangement': derangement, 'flip': flip}


def partners(kind: str, size: int, rng: torch.Generator) -> Tensor:
    """(N,) int64 partner of each sample, drawn on the CPU.

    Args:
        kind: 'permutation', 'derangement' or 'flip'.
        size: N.
        rng: CPU generator.
    """
    if kind not in PAIRINGS:
        raise InputError(
            f'pairing={kind!r} is unknown{did_you_mean(kind, PAIRINGS)}: use one of {", ".join(PAIRINGS)}.'
        )
    return PAIRINGS[kind](size, rng)
