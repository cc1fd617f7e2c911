"""Random streams by key: a draw depends on (seed, stream, step, rank) and on nothing that happened before it.

A run that is cut and continued, or loaded with another number of workers, therefore draws the same numbers, and
nothing here reads or advances a global random state.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ['derive_seed', 'draw_seed', 'generator_on', 'keyed_generator']


def derive_seed(*key: int | str) -> int:
    """A 63-bit seed: the first 8 bytes of SHA-256 of the key.

    torch's CPU generator keeps only the low 32 bits of its seed, so packing (seed, step, rank) into one integer by
    arithmetic would make far-apart keys collide; a hash spreads them.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], 'big') >> 1


def keyed_generator(*key: int | str) -> torch.Generator:
    """A CPU generator of its own, seeded with :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*key))


def draw_seed(rng: torch.Generator) -> int:
    """A 63-bit seed for :func:`generator_on`, drawn from a CPU generator."""
    return int(torch.randint(2**63 - 1, (), generator=rng))


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A generator of its own on ``device``, to draw there what would take long to draw and to copy: noise.

    The same seed gives the same numbers again on the same kind of device, but others on another kind. On the meta
    device, where nothing is drawn, it is one of the CPU.
    """
    return torch.Generator('cpu' if device.type == 'meta' else device).manual_seed(seed)
