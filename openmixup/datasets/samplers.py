"""Batch samplers whose order depends on (seed, epoch) alone, so that a run can be cut and continued anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from openmixup.checks import is_whole
from openmixup.errors import InputError
from openmixup.randomness import keyed_generator
from openmixup.registry import DATA_SAMPLERS

__all__ = ['BankSampler', 'EpochBatchSampler', 'InfiniteBatchSampler']

FIRST_BANK_EPOCH = 2**30  # behind the epochs of any run, those of repeated copies included


def _check(length: int, batch_size: int, rank: int, world_size: int, start_batch: int) -> None:
    numbers = {'length': length, 'batch_size': batch_size, 'world_size': world_size, 'start_batch': start_batch}
    for name, value in numbers.items():
        least = 0 if name == 'start_batch' else 1
        if not is_whole(value, least):
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
        self.epoch, self.start_batch, self.start_sample = 0, start_batch, 0

    def set_epoch(self, epoch: int, start_batch: int = 0, start_sample: int = 0) -> None:
        """Choose the epoch of the next iteration, and what is left out at its start.

        Args:
            epoch: number of the epoch, from 0.
            start_batch: batches of this rank that were seen already.
            start_sample: samples of all ranks that were seen before these, in batches of another size.
        """
        self.epoch, self.start_batch, self.start_sample = epoch, start_batch, start_sample

    @property
    def num_samples(self) -> int:
        """Samples of this rank in one epoch."""
        return self._share_of(self.length)

    def batches_behind(self, samples: int) -> int:
        """Batches of this rank in what an epoch has behind its first ``samples`` samples."""
        return -(-self._share_of(max(self.length - samples, 0)) // self.batch_size)

    def _share_of(self, count: int) -> int:
        """Samples of this rank in ``count`` ones."""
        if self.drop_last:
            return count // (self.batch_size * self.world_size) * self.batch_size
        if self.shuffle:
            return -(-count // self.world_size)
        return len(range(self.rank, count, self.world_size))

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = _order(self.length, self.shuffle, self.seed, self.epoch)[self.start_sample :]
        # the remainder wraps positions past the end, also when there are more ranks than samples
        share = order[(torch.arange(self._share_of(len(order))) * self.world_size + self.rank) % max(len(order), 1)]
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
        self.start_sample = 0  # samples of all ranks before the first batch, seen in batches of another size

    def __len__(self) -> int:
        """Batches in one pass over the samples, at least 1; the stream itself does not end."""
        return max(self.length // (self.batch_size * self.world_size), 1)

    def __iter__(self) -> Iterator[list[int]]:
        position = self.start_sample + self.start_batch * self.batch_size * self.world_size + self.rank
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


class BankSampler:
    """The batches of another sampler, each with draws of a second, weighted stream behind it.

    The second stream draws from the same samples with replacement. Each epoch has draws of its own, keyed by the seed
    and the epoch, and the ranks take them in turn; in an endless stream, a stretch as long as an epoch counts as one.

    Args:
        batches: the sampler of the batches; its seed, rank and start count for the second stream too.
        weights: probability of each sample up to a common factor, (length,), at least 0.
        batch_size: draws behind each batch; None: as many as the batch has samples.
        carry_epoch: yield ``index + number * length`` for the draws, with a number that no other draw and no epoch has,
            for data sets whose augmentation depends on the epoch: each draw is then augmented in its own way.

    Raises:
        InputError: weights of another number, below 0 or not finite, or all of them 0.
    """

    def __init__(
        self,
        batches: EpochBatchSampler | InfiniteBatchSampler,
        weights: Tensor,
        batch_size: int | None = None,
        carry_epoch: bool = False,
    ) -> None:
        total = float(weights.sum())
        if weights.shape != (batches.length,) or not bool((weights >= 0).all()) or not 0 < total < float('inf'):
            raise InputError(
                f'weights of shape {tuple(weights.shape)} for {batches.length} samples: give one finite number of at '
                'least 0 for each, and not 0 for all.'
            )
        self.batches, self.batch_size, self.carry_epoch = batches, batch_size, carry_epoch
        self._cumulative = weights.double().cumsum(0)
        samples = -(-batches.length // batches.world_size)
        # draws of a rank in one epoch; never fewer than its batches ask for
        self.share = -(-samples // batches.batch_size) * batch_size if batch_size else samples

    @property
    def start_batch(self) -> int:
        """Batches that are left out at the start, with their draws."""
        return self.batches.start_batch

    @start_batch.setter
    def start_batch(self, batch: int) -> None:
        self.batches.start_batch = batch

    def set_epoch(self, epoch: int, start_batch: int = 0, start_sample: int = 0) -> None:
        """As of the sampler of the batches, which must be one that knows epochs."""
        assert isinstance(self.batches, EpochBatchSampler)
        self.batches.set_epoch(epoch, start_batch, start_sample)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        seen = self.start_batch * (self.batch_size or self.batches.batch_size)
        if isinstance(self.batches, EpochBatchSampler):
            draws = self._draws(self.batches.epoch, seen)
        else:
            draws = self._draws(*divmod(seen, self.share))
        for batch in self.batches:
            yield batch + list(islice(draws, self.batch_size or len(batch)))

    def _draws(self, epoch: int, first: int) -> Iterator[int]:
        """This rank's draws from number ``first`` of an epoch on, without an end."""
        length, rank, world_size = self.batches.length, self.batches.rank, self.batches.world_size
        count = self.share * world_size
        while True:
            rng = keyed_generator(self.batches.seed, 'bank', epoch)
            point = torch.rand(count, dtype=torch.float64, generator=rng) * self._cumulative[-1]
            drawn = torch.searchsorted(self._cumulative, point, right=True).clamp_(max=length - 1)
            if self.carry_epoch:
                drawn += (torch.arange(count) + FIRST_BANK_EPOCH + epoch * count) * length
            yield from drawn[rank::world_size][first:].tolist()
            epoch, first = epoch + 1, 0
