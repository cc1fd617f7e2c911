"""What a policy may know besides its batch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.utils.data import get_worker_info

from openmixup.randomness import keyed_generator

__all__ = ['LIBRARY', 'Context']


@dataclass(frozen=True, eq=False)
class Context:
    """Random streams, position in the run, and the only ways to look at the network.

    Args:
        seed: seed of the run.
        step: global count of micro-batches; together with ``seed`` and ``rank`` it keys the random streams.
        rank: index of this process among all.
        epoch: epochs completed, for compositions that change over time.
        progress: share of the run that is done, in [0, 1]; schedules are closed forms of it.
        probe: read-only access to the network, for policies that ask for it in ``needs``.
        criterion: the learner's loss, for policies with terms of their own.
        generator: replaces the keyed streams, for use outside a run.
    """

    seed: int = 0
    step: int = 0
    rank: int = 0
    epoch: int = 0
    progress: float = 0.0
    probe: Any = None
    criterion: Any = None
    generator: torch.Generator | None = None

    @cached_property
    def rng(self) -> torch.Generator:
        """CPU stream of this rank and step."""
        return self.generator or keyed_generator(self.seed, 'mix', self.step, self.rank)

    @cached_property
    def shared_rng(self) -> torch.Generator:
        """CPU stream of this step that all ranks share: choice of a policy, a layer, a grid."""
        return self.generator or keyed_generator(self.seed, 'shared', self.step)


class LibraryStream:
    """The stream for policies outside a run: one per process, so that no two policies or calls draw the same.

    Hashing a key for each call would cost as much as drawing, so the stream goes on until the seed
    (``torch.initial_seed()``) or the loader worker is another one.
    """

    def __init__(self) -> None:
        self._key: tuple[int, int] | None = None
        self._begun = 0
        self._generator = torch.Generator()

    def generator(self) -> torch.Generator:
        """The CPU generator to draw from."""
        worker = get_worker_info()
        key = (torch.initial_seed(), worker.id if worker else -1)
        if key != self._key:
            self._generator = keyed_generator('library', *key, int(os.environ.get('RANK', 0)), self._begun)
            self._key = key
            self._begun += 1  # so that a seed which comes back does not repeat its draws
        return self._generator


LIBRARY = LibraryStream()
