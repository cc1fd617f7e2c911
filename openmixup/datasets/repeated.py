"""Repeated augmentation: several differently augmented copies of an image close to each other."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from openmixup.checks import is_whole
from openmixup.datasets.samplers import EpochBatchSampler
from openmixup.errors import InputError
from openmixup.randomness import keyed_generator
from openmixup.registry import DATA_SAMPLERS

__all__ = ['RepeatedBatchSampler']

_APART = 2**32  # epochs between the augmentations of two copies, so that no epoch of a run meets those of another


@DATA_SAMPLERS.register_module()
class RepeatedBatchSampler(EpochBatchSampler):
    """Lists of indices for one epoch in which each image of the order stands ``repeats`` times in a row.

    Source: Hoffer et al., "Augment your batch", CVPR 2020, in the form of Touvron et al., "Training data-efficient
    image transformers", ICML 2021: an epoch is as long as without repetition, so that it shows about one in
    ``repeats`` images, others in each epoch. The ranks take the copies in turn, so that with several processes the
    copies of an image meet in different batches of one step, else in one batch. (The published code also rounds the
    epoch down to a multiple of 256 samples; here ``drop_last`` leaves out what fills no batch.)

    The order depends on (seed, epoch) alone, as that of :class:`EpochBatchSampler`, whose :meth:`set_epoch` continues
    in the middle of an epoch.

    Args:
        length: number of images, at least 1.
        batch_size: samples in a batch of this rank, at least 1.
        repeats: copies of each image, at least 1; 1 gives the order of :class:`EpochBatchSampler`.
        shuffle: True; an unshuffled order shows every image once, so that False is refused.
        seed: seed of the order; the same on all ranks.
        rank: number of this process, 0 to ``world_size - 1``.
        world_size: number of processes.
        drop_last: leave out what does not fill a batch on every rank.
        start_batch: batches of this rank to leave out at the start of the first epoch, without reading them.
        carry_copy: for data sets that draw a sample's augmentation by (seed, epoch, index) and take an epoch out of the
            index (``reads_epoch``): yield ``index + epochs * length`` with other epochs for each copy. Without it the
            copies come out of the data set alike, and what differs are the batch transforms behind it.

    Raises:
        InputError: a number out of its range, ``shuffle=False``, or ``drop_last`` would leave no batch at all.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        repeats: int = 3,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        start_batch: int = 0,
        carry_copy: bool = False,
    ) -> None:
        if not is_whole(repeats, 1):
            raise InputError(f'repeats={repeats!r}: give a whole number of at least 1.')
        if not shuffle:
            raise InputError(f'repeats={repeats} with shuffle=False: only a shuffled (training) order repeats images.')
        super().__init__(length, batch_size, True, seed, rank, world_size, drop_last, start_batch)
        self.repeats, self.carry_copy = repeats, carry_copy

    def __iter__(self) -> Iterator[list[int]]:
        if self.start_sample:
            raise InputError(
                f'an epoch of repeated images cannot go on behind {self.start_sample} samples in batches of another '
                'size: continue from the end of an epoch, or with the sizes that the run began with.'
            )
        order = torch.randperm(self.length, generator=keyed_generator(self.seed, 'shuffle', self.epoch))
        # the remainder wraps positions past the end, also when there are more ranks than samples
        position = (torch.arange(self.num_samples) * self.world_size + self.rank) % self.length
        share = order[position // self.repeats]
        if self.carry_copy:
            share = share + position % self.repeats * (_APART * self.length)
        for start in range(self.start_batch * self.batch_size, len(share), self.batch_size):
            yield share[start : start + self.batch_size].tolist()
