"""STL-10 in its official binary layout."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from openmixup.checks import is_whole
from openmixup.datasets.checks import check_choice
from openmixup.datasets.memory import InMemoryDataset
from openmixup.datasets.official import Official
from openmixup.datasets.sources import find_or_download, known_archive
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['STL10']

_FOLDS = 'fold_indices.txt'
_VALUES = 3 * 96 * 96


def _needs(split: str) -> tuple[str, ...]:
    return (f'{split}_X.bin', f'{split}_y.bin', 'class_names.txt')


def _hashes() -> dict[str, str]:
    from torchvision.datasets import STL10 as Theirs

    return {name: md5 for name, md5 in (*Theirs.train_list, *Theirs.test_list) if not name.startswith('unlabeled')}


def _images(path: Path) -> np.ndarray:
    """Images (n, 3, 96, 96); in the file each channel stands column by column."""
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if not len(data) or len(data) % _VALUES:
        raise InputError(f'{path} has {len(data):,} bytes, which are no images of 3x96x96; fetch it again.')
    return data.reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)


@DATASETS.register_module()
class STL10(InMemoryDataset):
    """96x96 colour images in 10 classes: 5,000 for training, 8,000 for the test.

    Read from ``root/stl10_binary`` (or ``root`` itself). The 100,000 images without labels are not read.

    Source: Coates, Ng, Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.

    Args:
        root: folder that holds stl10_binary.
        split: 'train' or 'test'.
        fold: 0 to 9: one of the official folds of 1,000 training images; None: all of them. For split='train' only.
        per_class: see :class:`InMemoryDataset`; for split='train' only.
        subset_seed: seed of that draw.
        download: fetch missing files into ``root``, and compare them with the hash that torchvision knows.
        allow_subset: take files with fewer images than were published.

    Raises:
        InputError: unknown split or fold, files that are missing or damaged, or another number of images.
    """

    official = Official(
        name='stl10',
        title='STL-10',
        splits={'train': 5_000, 'test': 8_000},
        classes=10,
        needs={split: _needs(split) for split in ('train', 'test')},
        places=('stl10_binary', ''),
        page='https://cs.stanford.edu/~acoates/stl10/',
        access='for research, under the terms of ImageNet',
        download='2.6 GB',
        put='the folder stl10_binary of stl10_binary.tar.gz there, unpacked',
        archives=lambda: known_archive('STL10', 'stl10_binary'),
        hashes=_hashes,
    )

    def __init__(
        self,
        root: str | os.PathLike = 'data',
        split: str = 'train',
        fold: int | None = None,
        per_class: int | None = None,
        subset_seed: int = 0,
        download: bool = False,
        allow_subset: bool = False,
    ) -> None:
        check_choice('split', split, ('train', 'test'))
        folder = find_or_download(self.official, root, split, download)
        images, names = _images(folder / f'{split}_X.bin'), (folder / 'class_names.txt').read_text().split()
        labels = torch.tensor(list((folder / f'{split}_y.bin').read_bytes()), dtype=torch.int64) - 1
        if len(labels) != len(images):
            raise InputError(f'{folder}: {len(images)} {split} images and {len(labels)} labels; fetch them again.')
        self.official.check(split, len(images), len(names), folder, allow_subset)
        if fold is not None and split == 'train':
            keep = self._fold(folder, fold, len(images))
            images, labels = images[keep], labels[keep]
        super().__init__(
            torch.from_numpy(np.ascontiguousarray(images)),
            labels,
            names,
            per_class=per_class if split == 'train' else None,
            subset_seed=subset_seed,
        )

    @staticmethod
    def _fold(folder: Path, fold: int, count: int) -> list[int]:
        """Numbers of the images of a fold."""
        if not is_whole(fold, 0, 9):
            raise InputError(f'fold={fold!r}: give a number from 0 to 9, or None for all images.')
        file = folder / _FOLDS
        lines = file.read_text().splitlines() if file.is_file() else []
        words = lines[fold].split() if fold < len(lines) else []
        if not words or not all(word.isdecimal() and int(word) < count for word in words):
            raise InputError(f'{file} has no fold {fold} of numbers below {count}; fetch it again.')
        return [int(word) for word in words]
