"""Random streams by key: a draw depends on (seed, stream, step, rank) and on nothing that happened before it.

A run that is cut and continued, or loaded with another number of workers, therefore draws the same numbers, and
nothing here reads or advances a global random state.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ['derive_seed', 'keyed_generator']


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
