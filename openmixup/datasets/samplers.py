"""Batch samplers whose order depends on (seed, epoch) alone, so that a run can be cut and continued anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.randomness import keyed_generator
from openmixup.registry import DATA_SAMPLERS

__all__ = ['EpochBatchSampler', 'InfiniteBatchSampler']


def _check(length: int, batch_size: int, rank: int, world_size: int, start_batch: int) -> None:
    numbers = {'length': length, 'batch_size': batch_size, 'world_size': world_size, 'start_batch': start_batch}
    for name, value in numbers.items():
        least = 0 if name == 'start_batch' else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f'{name}={value!r}: give a whole number of at least {least}.')
    if not 0 <= rank < world_size:
        raise InputError(f'rank={rank} is outside 0 to {world_size - 1} (world_size={world_size}).')


def _order(length: int, shuffle: bool, seed: int, epoch: int) -> Tensor:
    """The order of one epoch, (length,) int64, the same on every rank."""
    if not shuffle:
        return torch.arange(length)
    return torch.randperm(length, generator=keyed_generator(seed, 'shuffle', epoch))


@DATA_SAMPLERS.register_module()
class EpochBatchSampler:
    """Lists of indices for one epoch; ``DataLoader(batch_sampler=...)`` takes it.

    The ranks take the samples of the epoch's order in turn, so their shares are disjoint. Without ``drop_last`` a
    shuffled (training) order is lengthened by its own beginning until every rank has the same number of samples; an
    unshuffled (evaluation) order never is: each sample comes exactly once over all ranks, and a rank may have one batch
    less than another. The last batch may be short, down to one sample. With ``drop_last`` every rank makes the same
    number of whole batches.

    An epoch is repeated until :meth:`set_epoch` names another one.

    Args:
        length: number of samples, at least 1.
        batch_size: samples in a batch of this rank, at least 1.
        shuffle: a new order in each epoch.
        seed: seed of the order; the same on all ranks.
        rank: number of this process, 0 to ``world_size - 1``.
        world_size: number of processes.
        drop_last: leave out what does not fill a batch on every rank.
        start_batch: batches of this rank to leave out at the start of the first epoch, without reading them.

    Raises:
        InputError: a number out of its range, or ``drop_last`` would leave no batch at all.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        start_batch: int = 0,
    ) -> None:
        _check(length, batch_size, rank, world_size, start_batch)
        if drop_last and length < batch_size * world_size:
            raise InputError(
                f'drop_last=True leaves no batch: {length} samples are fewer than {batch_size} x {world_size} '
                '(batch_size x world_size); lower batch_size or set drop_last=False.'
            )
        self.length, self.batch_size, self.shuffle, self.seed = length, batch_size, shuffle, seed
        self.rank, self.world_size, self.drop_last = rank, world_size, drop_last
        self.epoch, self.start_batch = 0, start_batch

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose the epoch of the next iteration, and how many of its batches are left out at its start."""
        self.epoch, self.start_batch = epoch, start_batch

    @property
    def num_samples(self) -> int:
        """Samples of this rank in one epoch."""
        if self.drop_last:
            return self.length // (self.batch_size * self.world_size) * self.batch_size
        if self.shuffle:
            return -(-self.length // self.world_size)
        return len(range(self.rank, self.length, self.world_size))

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = _order(self.length, self.shuffle, self.seed, self.epoch)
        # the remainder wraps positions past the end, also when there are more ranks than samples
        share = order[(torch.arange(self.num_samples) * self.world_size + self.rank) % self.length]
        first = self.start_batch * self.batch_size
        for start in range(first, len(share), self.batch_size):
            yield share[start : start + self.batch_size].tolist()


@DATA_SAMPLERS.register_module()
class InfiniteBatchSampler:
    """An endless stream of full batches, for training that counts iterations.

    The stream is the orders of epoch 0, 1, 2, ... one after the other, each the same as :class:`EpochBatchSampler`
    draws with the same seed; the ranks take its samples in turn. A batch may lie across two epochs; none is short.

    Args:
        length: number of samples, at least 1.
        batch_size: samples in a batch of this rank, at least 1.
        shuffle: a new order in each epoch of the stream.
        seed: seed of the order; the same on all ranks.
        rank: number of this process, 0 to ``world_size - 1``.
        world_size: number of processes.
        start_batch: batches of this rank to leave out at the start, without reading them.
        carry_epoch: yield ``index + epoch * length`` instead of the index, for data sets whose augmentation depends on
            the epoch (they take it apart again). Workers read ahead, so that nothing else tells them the epoch in time.

    Raises:
        InputError: a number out of its range.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start_batch: int = 0,
        carry_epoch: bool = False,
    ) -> None:
        _check(length, batch_size, rank, world_size, start_batch)
        self.length, self.batch_size, self.shuffle, self.seed = length, batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.start_batch, self.carry_epoch = start_batch, carry_epoch

    def __len__(self) -> int:
        """Batches in one pass over the samples, at least 1; the stream itself does not end."""
        return max(self.length // (self.batch_size * self.world_size), 1)

    def __iter__(self) -> Iterator[list[int]]:
        position = self.start_batch * self.batch_size * self.world_size + self.rank
        epoch = -1
        batch: list[int] = []
        order = torch.empty(0)
        while True:
            if position // self.length != epoch:
                epoch = position // self.length
                order = _order(self.length, self.shuffle, self.seed, epoch)
            # all that this rank takes from this epoch for the current batch
            offset = position - epoch * self.length
            taken = order[offset :: self.world_size][: self.batch_size - len(batch)]
            position += len(taken) * self.world_size
            batch += (taken + epoch * self.length if self.carry_epoch else taken).tolist()
            if len(batch) == self.batch_size:
                yield batch
                batch = []
