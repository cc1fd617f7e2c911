"""Who is mixed with whom, as indices and weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from openmixup.errors import InputError, did_you_mean

__all__ = ['PAIRINGS', 'derangement', 'flip', 'pair_index', 'pair_weights', 'partners', 'permutation']


def permutation(size: int, rng: torch.Generator) -> Tensor:
    """(N,) a uniformly drawn permutation; a sample may meet itself."""
    return torch.randperm(size, generator=rng)


def derangement(size: int, rng: torch.Generator) -> Tensor:
    """(N,) a uniformly drawn cycle through all samples: no sample meets itself (N > 1).

    Sattolo's cycles in closed form: each sample of a random order gets its successor. O(N), no retries.
    """
    order = torch.randperm(size, generator=rng).numpy()
    partner = np.empty_like(order)
    partner[order[:-1]], partner[order[-1:]] = order[1:], order[:1]
    return torch.from_numpy(partner)


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


def pair_index(partner: Tensor) -> Tensor:
    """(N, 2) index of each sample and its partner (N,), on the CPU."""
    index = np.empty((partner.shape[0], 2), np.int64)
    index[:, 0], index[:, 1] = np.arange(len(index)), partner.numpy()
    return torch.from_numpy(index)


def pair_weights(own: Tensor | float, size: int) -> Tensor:
    """(N, 2) float32 weights of the own image and its partner from one, (1,) or (N,) weights of the own image.

    They may be views of one row: make new ones instead of writing into them.
    """
    if not isinstance(own, Tensor):
        return torch.from_numpy(np.full((size, 2), (own, 1 - own), np.float32))
    if own.device.type == 'cpu' and own.shape[0] == 1:
        return pair_weights(own.item(), size)
    return torch.stack([own, 1 - own], 1).float().expand(size, 2)
