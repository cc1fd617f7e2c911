"""The loader: index lists in, whole batches out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from openmixup.datasets.memory import InMemoryDataset
from openmixup.datasets.samplers import EpochBatchSampler, InfiniteBatchSampler
from openmixup.errors import InputError
from openmixup.randomness import keyed_generator

__all__ = ['BatchLoader', 'build_dataloader']

_GRACE = 120  # seconds from SIGTERM to the end of a worker


class BatchLoader(DataLoader):
    """A ``DataLoader`` that passes the epoch on, and an error of a worker as the one sentence that it was there."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return self._plain_errors(super().__iter__())

    def close(self) -> None:
        """End the worker processes now; the next iteration starts new ones. Call it at the end of a run.

        Left to the garbage collector after an exception, they may be waited for by torch for several seconds.
        """
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]

    def _plain_errors(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except InputError as error:
            self.close()
            sentence = str(error).rpartition('InputError: ')[2].strip()  # torch puts the worker's traceback before it
            raise InputError(sentence) from error

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose the epoch of the next iteration, and how many of its batches are left out, without reading them.

        Args:
            epoch: number of the epoch, from 0.
            start_batch: batches of this rank that were seen already.
        """
        if not isinstance(self.batch_sampler, EpochBatchSampler):
            raise InputError('an infinite loader has no epoch to set; its sampler counts them by itself.')
        self.batch_sampler.set_epoch(epoch, start_batch)
        if hasattr(self.dataset, 'set_epoch'):
            self.dataset.set_epoch(epoch)

    def start_at(self, batch: int) -> None:
        """Begin the next iteration behind the first ``batch`` batches of this rank, without reading them."""
        self.batch_sampler.start_batch = batch  # type: ignore[union-attr]


def _as_batch(samples: Any) -> Any:
    """A batch that ``__getitems__`` made is passed on as it is; a list of samples is stacked."""
    return default_collate(samples) if isinstance(samples, list) else samples


def _start_worker(worker: int) -> None:
    """One thread, and the signals that end a run are left to the main process, which ends its workers itself.

    SIGTERM may also come from torch, which ends a stuck worker by it; so it ends the worker after a delay in which the
    main process can save its state.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, 'alarm'):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))


def build_dataloader(
    dataset: Dataset,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    drop_last: bool = False,
    infinite: bool = False,
    start_batch: int = 0,
) -> BatchLoader:
    """A loader of dicts of tensors whose order and content depend on the seed and the epoch alone.

    No global random state is read or changed. Page-locked memory is used where CUDA is available and the batch
    is made on the CPU.

    Args:
        dataset: one that makes whole batches (``__getitems__``), or single samples that are then stacked.
        batch_size: samples in a batch of this process.
        shuffle: a new order in each epoch (training); False: every sample exactly once over all ranks (evaluation).
        seed: seed of the order; the same on all ranks.
        rank: number of this process.
        world_size: number of processes.
        num_workers: worker processes; sets in memory always use none. They live on between epochs.
        drop_last: leave out the last batch if it is not full.
        infinite: an endless stream of full batches in place of epochs.
        start_batch: batches to leave out at the start, without reading them.

    Returns:
        A ``DataLoader``; call its ``set_epoch`` before each epoch, unless it is infinite.

    Raises:
        InputError: a number out of its range.
    """
    if num_workers < 0:
        raise InputError(f'num_workers={num_workers}: give 0 or more.')
    shared: dict[str, Any] = {
        'shuffle': shuffle,
        'seed': seed,
        'rank': rank,
        'world_size': world_size,
        'start_batch': start_batch,
    }
    length = len(dataset)  # type: ignore[arg-type]
    sampler: EpochBatchSampler | InfiniteBatchSampler
    if infinite:
        carry = getattr(dataset, 'reads_epoch', False)
        sampler = InfiniteBatchSampler(length, batch_size, carry_epoch=carry, **shared)
    else:
        sampler = EpochBatchSampler(length, batch_size, drop_last=drop_last, **shared)
    workers = 0 if isinstance(dataset, InMemoryDataset) else num_workers
    on_cpu = not isinstance(dataset, InMemoryDataset) or dataset.device.type == 'cpu'
    return BatchLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_as_batch,
        pin_memory=on_cpu and torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        generator=keyed_generator(seed, 'loader', rank),
        persistent_workers=workers > 0,
    )
