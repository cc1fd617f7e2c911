"""Fashion-MNIST, read from its four idx files."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from openmixup.datasets.checks import check_choice
from openmixup.datasets.memory import InMemoryDataset
from openmixup.datasets.sources import find_or_download
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['FashionMNIST', 'read_idx']

_DEBIAN = Path('/usr/share/datasets/fashion-mnist')
_MAX_VALUES = 2**30  # the largest set of this family, EMNIST, has half of it


def read_idx(path: Path) -> np.ndarray:
    """Read a file of unsigned bytes in the idx format, plain or gzip-compressed.

    Raises:
        InputError: another format, or a size that its header contradicts.
    """
    try:
        with gzip.open(path) if path.suffix == '.gz' else open(path, 'rb') as stream:
            start = stream.read(4)
            if len(start) < 4 or start[:3] != b'\0\0\x08':
                raise InputError(f'{path} is not an idx file of unsigned bytes (it begins {start!r}); fetch it again.')
            sides = stream.read(4 * start[3])
            if len(sides) < 4 * start[3]:
                raise InputError(f'{path} ends within its header; fetch it again.')
            shape = struct.unpack(f'>{start[3]}I', sides)
            expected = math.prod(shape)
            if expected > _MAX_VALUES:
                raise InputError(f'{path} says {shape} in its header, over {_MAX_VALUES} values; fetch it again.')
            data = stream.read(expected + 1)  # not all: a small .gz file may grow to any size
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f'{path} cannot be read ({error}); fetch it again.') from error
    if len(data) != expected:
        found = f'{len(data)} values' if len(data) < expected else 'more values'
        raise InputError(f'{path} has {found} and its header says {shape}; fetch it again.')
    return np.frombuffer(data, dtype=np.uint8).reshape(shape).copy()


def _find(root: str | os.PathLike | None, names: tuple[str, str]) -> Path | None:
    places = [_DEBIAN] if root is None else [Path(root), Path(root) / 'FashionMNIST' / 'raw', _DEBIAN]
    for place in places:
        if all((place / name).is_file() or (place / f'{name}.gz').is_file() for name in names):
            return place
    return None


@DATASETS.register_module()
class FashionMNIST(InMemoryDataset):
    """28x28 grey pictures of clothes in 10 classes: 60,000 for training, 10,000 for the test.

    The four idx files, plain or .gz, are looked for in ``root``, in ``root/FashionMNIST/raw`` and where Debian's
    package dataset-fashion-mnist puts them.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset", 2017.

    Args:
        root: folder of the files; None: the place of the Debian package, and 'data' for a download.
        split: 'train' or 'test'.
        per_class: see :class:`InMemoryDataset`; for split='train' only.
        subset_seed: seed of that draw.
        download: let torchvision fetch missing files into ``root``.

    Raises:
        InputError: unknown split, files that are missing, damaged or do not fit together.
    """

    NAMES = (
        'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'
    )  # fmt: skip

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        split: str = 'train',
        per_class: int | None = None,
        subset_seed: int = 0,
        download: bool = False,
    ) -> None:
        check_choice('split', split, ('train', 'test'))
        stem = 'train' if split == 'train' else 't10k'
        names = (f'{stem}-images-idx3-ubyte', f'{stem}-labels-idx1-ubyte')
        target = 'data' if root is None else root
        folder = find_or_download(
            'FashionMNIST',
            lambda: _find(root, names) or _find(target, names),
            target,
            download,
            f'put {names[0]}.gz and {names[1]}.gz into {target}, or run `apt-get install dataset-fashion-mnist`',
        )
        images, labels = (read_idx(p if p.is_file() else Path(f'{p}.gz')) for p in (folder / n for n in names))
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise InputError(f'{folder}: images {images.shape} and labels {labels.shape} do not fit; fetch them again.')
        super().__init__(
            torch.from_numpy(images)[:, None],
            torch.from_numpy(labels),
            self.NAMES,
            per_class=per_class if split == 'train' else None,
            subset_seed=subset_seed,
        )
