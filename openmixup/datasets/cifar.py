"""CIFAR-10 and CIFAR-100 in their official python layout, read without running what a pickle may ask for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch

from openmixup.datasets.memory import InMemoryDataset, check_choice
from openmixup.datasets.sources import find_or_download
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['CIFAR10', 'CIFAR100', 'read_pickle']


def _encode(text: str, encoding: str = 'latin1') -> bytes:
    """The one use of ``_codecs.encode`` in an array's pickle: its bytes, written as text."""
    if encoding not in ('latin1', 'latin-1'):
        raise InputError(f'the pickle asks for the encoding {encoding!r}, which no array needs.')
    return text.encode('latin1')


_ARRAY = {'_reconstruct': np.zeros(1).__reduce__()[0], '_frombuffer': np.zeros(1).__reduce_ex__(5)[0]}
_ALLOWED: dict[tuple[str, str], Any] = {
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): _encode,
    **{(f'numpy.{core}.multiarray', '_reconstruct'): _ARRAY['_reconstruct'] for core in ('core', '_core')},
    **{(f'numpy.{core}.numeric', '_frombuffer'): _ARRAY['_frombuffer'] for core in ('core', '_core')},
}


class _ArrayUnpickler(pickle.Unpickler):
    """Plain containers, numbers, bytes and numpy arrays; nothing else is looked up."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        super().__init__(stream, encoding='bytes')
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise InputError(
                f'{self.path} asks for {module}.{name}, which no data file needs; it was not run: fetch the file again.'
            )
        return _ALLOWED[module, name]


def read_pickle(path: Path) -> dict:
    """Read a dict of plain data and numpy arrays from a pickle; its keys are bytes.

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
    return data


class _CIFAR(InMemoryDataset):
    """What both sets share."""

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
    ) -> None:
        check_choice('split', split, ('train', 'test'))
        base = Path(root)
        needed = (*self.parts[split], self.meta[0])

        def find() -> Path | None:
            places = (base / self.folder, base)
            return next((p for p in places if all((p / n).is_file() for n in needed)), None)

        remedy = f'put {", ".join(needed)} (python version) into {base / self.folder}'
        folder = find_or_download(type(self).__name__, find, base, download, remedy)
        batches = [self._read_part(folder / name) for name in self.parts[split]]
        names = read_pickle(folder / self.meta[0]).get(self.meta[1])
        if not isinstance(names, list) or not all(isinstance(n, bytes | str) for n in names):
            raise InputError(f'{folder / self.meta[0]} has no list {self.meta[1].decode()!r}; fetch it again.')
        super().__init__(
            torch.from_numpy(np.concatenate([images for images, _ in batches])),
            torch.cat([labels for _, labels in batches]),
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
        download: let torchvision fetch missing files into ``root``.

    Raises:
        InputError: unknown split, files that are missing, damaged or ask for code.
    """

    folder = 'cifar-10-batches-py'
    parts = {'train': tuple(f'data_batch_{i}' for i in range(1, 6)), 'test': ('test_batch',)}
    meta = ('batches.meta', b'label_names')
    label_key = b'labels'


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
        download: let torchvision fetch missing files into ``root``.

    Raises:
        InputError: unknown split, files that are missing, damaged or ask for code.
    """

    folder = 'cifar-100-python'
    parts = {'train': ('train',), 'test': ('test',)}
    meta = ('meta', b'fine_label_names')
    label_key = b'fine_labels'
