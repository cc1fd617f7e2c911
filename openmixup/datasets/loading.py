"""The loader: index lists in, whole batches out."""

from __future__ import annotations

import atexit
import os
import signal
import weakref
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from openmixup.checks import is_number, is_whole
from openmixup.datasets.checks import check_choice
from openmixup.datasets.memory import InMemoryDataset
from openmixup.datasets.repeated import RepeatedBatchSampler
from openmixup.datasets.samplers import BankSampler, EpochBatchSampler, InfiniteBatchSampler
from openmixup.errors import InputError, did_you_mean
from openmixup.randomness import keyed_generator

__all__ = ['BANK_KEYS', 'BatchLoader', 'bank_weights', 'build_dataloader', 'check_bank']

BANK_KEYS = {'weights', 'power', 'batch_size'}
_GRACE = 120  # seconds from SIGTERM to the end of a worker


class BatchLoader(DataLoader):
    """A ``DataLoader`` that passes the epoch on, and an error of a worker as the one sentence that it was there."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return self._plain_errors(super().__iter__())

    def close(self) -> None:
        """End the worker processes now; the next iteration starts new ones. Call it at the end of a run.

        Else they end with the loader or with Python.
        """
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]

    def _get_iterator(self) -> Any:
        iterator = super()._get_iterator()
        if self.num_workers:
            # before multiprocessing ends what is left by SIGTERM, which a worker outlives for a while
            atexit.register(_end_workers, weakref.ref(iterator), os.getpid())
        return iterator

    def _plain_errors(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except InputError as error:
            self.close()
            sentence = str(error).rpartition('InputError: ')[2].strip()  # torch puts the worker's traceback before it
            raise InputError(sentence) from error

    @property
    def order(self) -> Any:
        """The sampler of the batches, without a bank around it."""
        sampler: Any = self.batch_sampler
        return getattr(sampler, 'batches', sampler)

    def set_epoch(self, epoch: int, start_batch: int = 0, start_sample: int = 0) -> None:
        """Choose the epoch of the next iteration, and what of it is left out, without reading it.

        Args:
            epoch: number of the epoch, from 0.
            start_batch: batches of this rank that were seen already.
            start_sample: samples of all ranks that were seen before these, in batches of another size.
        """
        if not isinstance(self.order, EpochBatchSampler):
            raise InputError('an infinite loader has no epoch to set; its sampler counts them by itself.')
        self.order.set_epoch(epoch, start_batch, start_sample)
        if hasattr(self.dataset, 'set_epoch'):
            self.dataset.set_epoch(epoch)

    def start_at(self, batch: int, sample: int = 0) -> None:
        """Begin an endless stream behind ``sample`` samples of all ranks and ``batch`` batches of this one, unread."""
        self.order.start_batch, self.order.start_sample = batch, sample


def _end_workers(reference: weakref.ref, process: int) -> None:
    iterator = reference()
    if iterator is not None and os.getpid() == process:  # a fork's end is not that of the workers
        iterator._shutdown_workers()


def _as_batch(samples: Any) -> Any:
    """A batch that ``__getitems__`` made is passed on as it is; a list of samples is stacked."""
    return default_collate(samples) if isinstance(samples, list) else samples


def _with_bank(samples: Any, size: int | None) -> dict[str, Tensor]:
    """A batch whose last ``size`` samples, or last half, stand under ``bank_inputs`` and ``bank_labels``."""
    batch = _as_batch(samples)
    own = len(batch['labels']) - (size or len(batch['labels']) // 2)
    bank = {f'bank_{key}': value[own:] for key, value in batch.items()}
    return {key: value[:own] for key, value in batch.items()} | bank


def check_bank(bank: Mapping[str, Any]) -> None:
    """Refuse the config of a second stream that has unknown keys or values out of their ranges.

    Args:
        bank: ``weights``: 'inverse', 'uniform' or one number a class; ``power``; ``batch_size``.
    """
    for key in bank:
        if key not in BANK_KEYS:
            hint = did_you_mean(key, BANK_KEYS)
            raise InputError(f'bank has an unknown key {key!r}{hint} (it takes {", ".join(sorted(BANK_KEYS))}).')
    weights, power, size = bank.get('weights', 'inverse'), bank.get('power', 1.0), bank.get('batch_size')
    if isinstance(weights, str):
        check_choice('bank.weights', weights, ('inverse', 'uniform'))
    elif not (isinstance(weights, list | tuple) and all(is_number(each, 0) for each in weights) and any(weights)):
        raise InputError(
            f"bank.weights={weights!r}: expected 'inverse', 'uniform' or a number of at least 0 for each class, not 0 "
            'for all.'
        )
    if not is_number(power, 0):
        raise InputError(f'bank.power={power!r}: expected a number of at least 0.')
    if size is not None and not is_whole(size, 1):
        raise InputError(f'bank.batch_size={size!r}: expected a whole number of at least 1, or None for the same.')


def bank_weights(dataset: Any, weights: Any = 'inverse', power: float = 1.0) -> Tensor:
    """Weight of each sample in the draws of a second stream, (length,) float64 on the CPU.

    Args:
        dataset: with ``labels``, class numbers (length,), unless all samples are alike.
        weights: 'inverse': 1 / n^power for a sample whose class has n of them, so that with power 1 all classes are
            drawn equally often, with a larger one the rare ones more often; 'uniform': all samples alike; or the weight
            of a sample of each class.
        power: for 'inverse' only.

    Raises:
        InputError: the data set does not tell the classes of its samples, or has another number of classes.
    """
    if weights == 'uniform':
        return torch.ones(len(dataset), dtype=torch.float64)
    labels = torch.as_tensor(getattr(dataset, 'labels', ())).cpu()
    if labels.shape != (len(dataset),) or labels.is_floating_point():
        raise InputError(
            f'{type(dataset).__name__} has no class number for each sample (attribute labels), which the bank needs: '
            "use bank=dict(weights='uniform')."
        )
    counts = torch.bincount(labels, minlength=int(getattr(dataset, 'num_classes', None) or 0))
    if weights == 'inverse':
        return counts.clamp(min=1).double().pow(-power)[labels]
    if len(weights) != len(counts):
        raise InputError(f'bank.weights has {len(weights)} numbers for {len(counts)} classes: give one for each.')
    return torch.tensor(weights, dtype=torch.float64)[labels]


def _start_worker(worker: int) -> None:
    """One thread, and the signals that end a run are left to the main process, which ends its workers itself.

    SIGTERM may also come from torch, which ends a stuck worker by it; so it ends the worker after a delay in which the
    main process can save its state.
    """
    torch.set_num_threads(1)
    for name in ('SIGINT', 'SIGUSR1'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
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
    bank: Mapping[str, Any] | None = None,
    repeats: int = 1,
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
        bank: a second stream of samples of the same data set, drawn with replacement and weights, whose images and
            labels each batch has as ``bank_inputs`` and ``bank_labels``: ``dict(weights='inverse', power=1.0,
            batch_size=None)``, see :func:`bank_weights`; as many as the batch has, unless ``batch_size`` says another
            number. None: no such stream.
        repeats: copies of each image, augmented apart, that stand behind each other in the order of an epoch; see
            :class:`RepeatedBatchSampler`. 1: none; an infinite stream takes no other.

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
    carry = getattr(dataset, 'reads_epoch', False)
    sampler: EpochBatchSampler | InfiniteBatchSampler | BankSampler
    if infinite and repeats != 1:
        raise InputError(f'train_dataloader.repeats={repeats} needs epochs: use an EpochLoop, or leave repeats out.')
    if infinite:
        sampler = InfiniteBatchSampler(length, batch_size, carry_epoch=carry, **shared)
    elif repeats != 1:
        sampler = RepeatedBatchSampler(
            length, batch_size, repeats=repeats, drop_last=drop_last, carry_copy=carry, **shared
        )
    else:
        sampler = EpochBatchSampler(length, batch_size, drop_last=drop_last, **shared)
    collate: Any = _as_batch
    if bank is not None:
        check_bank(bank)
        options = {key: value for key, value in bank.items() if key != 'batch_size'}
        sampler = BankSampler(sampler, bank_weights(dataset, **options), bank.get('batch_size'), carry)
        collate = partial(_with_bank, size=bank.get('batch_size'))
    workers = 0 if isinstance(dataset, InMemoryDataset) else num_workers
    on_cpu = not isinstance(dataset, InMemoryDataset) or dataset.device.type == 'cpu'
    return BatchLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=on_cpu and torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        generator=keyed_generator(seed, 'loader', rank),
        persistent_workers=workers > 0,
    )
