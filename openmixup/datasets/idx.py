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
from openmixup.datasets.official import Archive, Official, first_of
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


def _needs(stem: str) -> tuple[str, ...]:
    names = (f'{stem}-images-idx3-ubyte', f'{stem}-labels-idx1-ubyte')
    return tuple(f'{name}|{name}.gz' for name in names)


def _archives() -> tuple[Archive, ...]:
    from torchvision.datasets import FashionMNIST as Theirs

    return tuple(
        Archive(f'FashionMNIST/raw/{name}', f'{Theirs.mirrors[0]}{name}', md5) for name, md5 in Theirs.resources
    )


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
        download: fetch missing files into ``root``, and compare them with the hashes that torchvision knows.
        allow_subset: take files with fewer images than were published.

    Raises:
        InputError: unknown split, files that are missing, damaged or do not fit together, or another number of images.
    """

    NAMES = (
        'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'
    )  # fmt: skip

    official = Official(
        name='fashion_mnist',
        title='Fashion-MNIST',
        splits={'train': 60_000, 'test': 10_000},
        classes=10,
        needs={'train': _needs('train'), 'test': _needs('t10k')},
        places=('', 'FashionMNIST/raw'),
        page='https://github.com/zalandoresearch/fashion-mnist',
        access='MIT',
        download='31 MB',
        put='the four files *-ubyte.gz there, or run `apt-get install dataset-fashion-mnist`',
        archives=_archives,
        elsewhere=lambda: (_DEBIAN,),
    )

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        split: str = 'train',
        per_class: int | None = None,
        subset_seed: int = 0,
        download: bool = False,
        allow_subset: bool = False,
    ) -> None:
        check_choice('split', split, ('train', 'test'))
        folder = find_or_download(self.official, root, split, download)
        images, labels = (read_idx(first_of(folder, names) or folder) for names in self.official.needs[split])
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise InputError(f'{folder}: images {images.shape} and labels {labels.shape} do not fit; fetch them again.')
        self.official.check(split, len(images), len(self.NAMES), folder, allow_subset)
        super().__init__(
            torch.from_numpy(images)[:, None],
            torch.from_numpy(labels),
            self.NAMES,
            per_class=per_class if split == 'train' else None,
            subset_seed=subset_seed,
        )
