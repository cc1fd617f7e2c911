"""CIFAR-10 and CIFAR-100 in their official python layout, read without running what a pickle may ask for."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch

from openmixup.datasets.checks import check_choice
from openmixup.datasets.memory import InMemoryDataset
from openmixup.datasets.official import Official
from openmixup.datasets.sources import find_or_download, known_archive
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['CIFAR10', 'CIFAR100', 'read_pickle']


class _Byte:
    """Stands for the dtype uint8, which needs no state."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for an array of bytes; numpy sees nothing of what the pickle says before the sizes are checked."""

    __slots__ = ('values',)

    def __init__(self) -> None:
        self.values: np.ndarray = np.zeros(0, dtype=np.uint8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_columns, raw = state
        self.fill(raw, dtype, shape, by_columns)

    def fill(self, raw: Any, dtype: Any, shape: Any, by_columns: Any) -> None:
        """Take the values, or raise where type and sizes do not fit together."""
        if type(dtype) is not _Byte or type(raw) not in (bytes, bytearray) or type(shape) is not tuple:
            raise ValueError('an array is not made of unsigned bytes')
        if any(type(side) is not int or side < 0 for side in shape) or math.prod(shape) != len(raw):
            raise ValueError(f'an array of shape {shape} has {len(raw)} values')
        self.values = np.frombuffer(raw, dtype=np.uint8).reshape(shape, order='F' if by_columns else 'C')


class _StandIn:
    """Called in place of what the pickle names; it has no state that a pickle could change."""

    __slots__ = ('_function',)

    def __init__(self, function: Callable) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise ValueError('a function is given a state')


def _encode(text: str, encoding: str = 'latin1') -> bytes:
    """The one use of ``_codecs.encode`` in an array's pickle: its bytes, written as text."""
    if encoding not in ('latin1', 'latin-1'):
        raise ValueError(f'the encoding {encoding!r} is asked for, which no array needs')
    return text.encode('latin1')


def _dtype(kind: Any, *_: Any) -> _Byte:
    if kind not in ('u1', 'uint8', b'u1', b'uint8'):
        raise ValueError(f'an array of type {kind!r} is asked for, and only uint8 is needed')
    return _Byte()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    array = _Array()
    array.fill(raw, dtype, shape, order == 'F')
    return array


def _no_call(*_: Any) -> None:
    raise ValueError('numpy.ndarray is called, which no array needs')


_ALLOWED: dict[tuple[str, str], Callable] = {
    ('numpy', 'ndarray'): _no_call,
    ('numpy', 'dtype'): _dtype,
    ('_codecs', 'encode'): _encode,
    **{(f'numpy.{core}.multiarray', '_reconstruct'): lambda *_: _Array() for core in ('core', '_core')},
    **{(f'numpy.{core}.numeric', '_frombuffer'): _frombuffer for core in ('core', '_core')},
}


class _ArrayUnpickler(pickle._Unpickler):
    """Plain containers, numbers, bytes and stand-ins for arrays of bytes; nothing else is looked up.

    It is the one that is written in Python: that in C sets aside as much memory as a damaged file may ask for.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        super().__init__(stream, encoding='bytes')
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise InputError(
                f'{self.path} asks for {module}.{name}, which no data file needs; it was not run: fetch the file again.'
            )
        return _StandIn(_ALLOWED[module, name])


def read_pickle(path: Path) -> dict:
    """Read a dict of plain data and uint8 arrays from a pickle; its keys are bytes.

    Raises:
        InputError: the file asks for anything else, is damaged or holds no dict.
    """
    try:
        with open(path, 'rb') as stream:
            data = _ArrayUnpickler(stream, path).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f'{path} cannot be read ({type(error).__name__}: {error}); fetch it again.') from error
    if not isinstance(data, dict):
        raise InputError(f'{path} holds a {type(data).__name__} in place of a dict; fetch it again.')
    return {key: value.values if isinstance(value, _Array) else value for key, value in data.items()}


class _CIFAR(InMemoryDataset):
    """What both sets share."""

    official: ClassVar[Official]
    folder: ClassVar[str]
    parts: ClassVar[dict[str, tuple[str, ...]]]
    meta: ClassVar[tuple[str, bytes]]
    label_key: ClassVar[bytes]

    def __init__(
        self,
        root: str | os.PathLike = 'data',
        split: str = 'train',
        per_class: int | None = None,
        subset_seed: int = 0,
        download: bool = False,
        allow_subset: bool = False,
    ) -> None:
        check_choice('split', split, ('train', 'test'))
        folder = find_or_download(self.official, root, split, download)
        batches = [self._read_part(folder / name) for name in self.parts[split]]
        names = read_pickle(folder / self.meta[0]).get(self.meta[1])
        if not isinstance(names, list) or not all(isinstance(n, bytes | str) for n in names):
            raise InputError(f'{folder / self.meta[0]} has no list {self.meta[1].decode()!r}; fetch it again.')
        labels = torch.cat([labels for _, labels in batches])
        self.official.check(split, len(labels), len(names), folder, allow_subset)
        super().__init__(
            torch.from_numpy(np.concatenate([images for images, _ in batches])),
            labels,
            [n.decode() if isinstance(n, bytes) else n for n in names],
            per_class=per_class if split == 'train' else None,
            subset_seed=subset_seed,
        )

    def _read_part(self, path: Path) -> tuple[np.ndarray, torch.Tensor]:
        """Images (n, 3, 32, 32) and labels (n,) of one file."""
        part = read_pickle(path)
        data, labels = part.get(b'data'), part.get(self.label_key)
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
            raise InputError(f'{path}: b"data" is not a uint8 array of rows of 3072 values; fetch the file again.')
        if not isinstance(labels, list) or len(labels) != len(data) or not all(isinstance(x, int) for x in labels):
            raise InputError(
                f'{path}: {self.label_key!r} is not a list of {len(data)} whole numbers; fetch the file again.'
            )
        return data.reshape(-1, 3, 32, 32), torch.tensor(labels, dtype=torch.int64)


def _hashes(name: str) -> dict[str, str]:
    """MD5 of the unpacked files, as torchvision's class of that name knows them."""
    import torchvision

    kind = getattr(torchvision.datasets, name)
    return {**dict(kind.train_list), **dict(kind.test_list), kind.meta['filename']: kind.meta['md5']}


@DATASETS.register_module()
class CIFAR10(_CIFAR):
    """32x32 colour images in 10 classes: 50,000 for training, 10,000 for the test.

    Read from ``root/cifar-10-batches-py`` (or ``root`` itself) by an unpickler that rebuilds numpy arrays only.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        root: folder that holds cifar-10-batches-py.
        split: 'train' or 'test'.
        per_class: see :class:`InMemoryDataset`; for split='train' only.
        subset_seed: seed of that draw.
        download: fetch missing files into ``root``, and compare them with the hash that torchvision knows.
        allow_subset: take files with fewer images or classes than were published.

    Raises:
        InputError: unknown split, files that are missing, damaged or ask for code, or another number of images.
    """

    folder = 'cifar-10-batches-py'
    parts = {'train': tuple(f'data_batch_{i}' for i in range(1, 6)), 'test': ('test_batch',)}
    meta = ('batches.meta', b'label_names')
    label_key = b'labels'
    official = Official(
        name='cifar10',
        title='CIFAR-10',
        splits={'train': 50_000, 'test': 10_000},
        classes=10,
        needs={split: (*names, 'batches.meta') for split, names in parts.items()},
        places=(folder, ''),
        page='https://www.cs.toronto.edu/~kriz/cifar.html',
        access='for research; no licence is named',
        download='170 MB',
        put='data_batch_1 to data_batch_5, test_batch and batches.meta (python version) into cifar-10-batches-py there',
        archives=lambda: known_archive('CIFAR10', 'cifar-10-batches-py'),
        hashes=lambda: _hashes('CIFAR10'),
    )


@DATASETS.register_module()
class CIFAR100(_CIFAR):
    """32x32 colour images in 100 (fine) classes: 50,000 for training, 10,000 for the test.

    Read from ``root/cifar-100-python`` (or ``root`` itself) by an unpickler that rebuilds numpy arrays only.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        root: folder that holds cifar-100-python.
        split: 'train' or 'test'.
        per_class: see :class:`InMemoryDataset`; for split='train' only.
        subset_seed: seed of that draw.
        download: fetch missing files into ``root``, and compare them with the hash that torchvision knows.
        allow_subset: take files with fewer images or classes than were published.

    Raises:
        InputError: unknown split, files that are missing, damaged or ask for code, or another number of images.
    """

    folder = 'cifar-100-python'
    parts = {'train': ('train',), 'test': ('test',)}
    meta = ('meta', b'fine_label_names')
    label_key = b'fine_labels'
    official = Official(
        name='cifar100',
        title='CIFAR-100',
        splits={'train': 50_000, 'test': 10_000},
        classes=100,
        needs={split: (*names, 'meta') for split, names in parts.items()},
        places=(folder, ''),
        page='https://www.cs.toronto.edu/~kriz/cifar.html',
        access='for research; no licence is named',
        download='169 MB',
        put='train, test and meta (python version) into cifar-100-python there',
        archives=lambda: known_archive('CIFAR100', 'cifar-100-python'),
        hashes=lambda: _hashes('CIFAR100'),
    )
