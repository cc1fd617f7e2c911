"""Tiny-ImageNet-200, decoded once and kept as one array."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from openmixup.datasets.checks import check_choice
from openmixup.datasets.decode import read_image
from openmixup.datasets.memory import InMemoryDataset
from openmixup.datasets.official import Archive, Official
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['TinyImageNet']

_SHAPE = (3, 64, 64)
_NAME = re.compile(r'\w[\w.-]*')  # of a file, in no other folder
logger = logging.getLogger(__name__)


def _list_train(root: Path, wnids: list[str]) -> list[tuple[str, int]]:
    files = []
    for label, wnid in enumerate(wnids):
        folder = root / 'train' / wnid / 'images'
        names = sorted(n for n in os.listdir(folder) if n.upper().endswith('.JPEG')) if folder.is_dir() else []
        if not names:
            raise InputError(f'{folder} holds no .JPEG image; unpack the archive tiny-imagenet-200 again.')
        files += [(f'train/{wnid}/images/{name}', label) for name in names]
    return files


def _list_val(root: Path, wnids: list[str]) -> list[tuple[str, int]]:
    labels = {wnid: i for i, wnid in enumerate(wnids)}
    path = root / 'val' / 'val_annotations.txt'
    files = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = line.split('\t')
        if len(fields) < 2 or fields[1] not in labels or not _NAME.fullmatch(fields[0]):
            raise InputError(
                f'{path}, line {number}: {line!r} is not `file<tab>wnid...` with a file of val/images and a wnid of '
                'wnids.txt; unpack the archive tiny-imagenet-200 again.'
            )
        files.append((f'val/images/{fields[0]}', labels[fields[1]]))
    if not files:
        raise InputError(f'{path} is empty; unpack the archive tiny-imagenet-200 again.')
    return files


def _decode(root: Path, files: list[tuple[str, int]], images: np.ndarray) -> None:
    """Decode every file into its row of ``images``, with one thread per core."""

    def one(number: int) -> None:
        path = root / files[number][0]
        image = read_image(path)
        if image.shape != _SHAPE:
            raise InputError(
                f'{path} has the shape {tuple(image.shape)} in place of {_SHAPE}; unpack the archive again.'
            )
        images[number] = image.numpy()

    count = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    # the filters of warnings are common to all threads: restored when the last has gone
    with warnings.catch_warnings(), ThreadPoolExecutor(count) as pool:
        try:
            for _ in pool.map(one, range(len(files))):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _load(root: Path, split: str, files: list[tuple[str, int]]) -> np.ndarray:
    """The decoded images (n, 3, 64, 64): from the cache if it fits the files, else decoded and cached."""
    digest = hashlib.sha256('\n'.join(name for name, _ in files).encode()).hexdigest()[:12]
    resolved = root.resolve()
    cache = resolved.parent / f'{resolved.name}-{split}-{len(files)}-{digest}.npy'
    shape = (len(files), *_SHAPE)
    if cache.is_file():
        try:
            # mapped, so that several processes on one machine share the memory; 'c': writable views, never written back
            images = np.load(cache, mmap_mode='c', allow_pickle=False)
            if images.shape == shape and images.dtype == np.uint8:
                return images
            logger.warning('%s holds %s of shape %s; it is made anew.', cache, images.dtype, images.shape)
        except (OSError, ValueError, EOFError) as error:
            logger.warning('%s cannot be read (%s); it is made anew.', cache, error)
    images = np.empty(shape, dtype=np.uint8)
    _decode(root, files, images)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=cache.parent, suffix='.part', delete=False) as stream:
            temporary = stream.name
            np.save(stream, images, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, cache)
    except OSError as error:
        logger.warning('the decoded images are not cached in %s (%s); they are decoded anew each time.', cache, error)
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
    return images


@DATASETS.register_module()
class TinyImageNet(InMemoryDataset):
    """64x64 colour images in 200 classes: 100,000 for training, 10,000 for the test (the official validation part).

    The JPEG files are decoded once, by several threads, into a file beside ``root`` (1.2 GB for the training part,
    named after the number of files and a digest of their names, so that it is never used for others). Labels follow
    the sorted order of the wnids, as in torchvision's ``ImageFolder``. The official test part has no labels and is not
    read.

    Source: Stanford CS231n, Tiny ImageNet Visual Recognition Challenge, 2015.

    Args:
        root: the folder tiny-imagenet-200, or the one that holds it.
        split: 'train', or 'val' ('test' is the same).
        per_class: see :class:`InMemoryDataset`; for split='train' only.
        subset_seed: seed of that draw.
        allow_subset: take folders with fewer images or classes than were published.

    Raises:
        InputError: unknown split, missing files, another number of images, or one that cannot be decoded.
    """

    official = Official(
        name='tiny_imagenet',
        title='Tiny-ImageNet',
        splits={'train': 100_000, 'val': 10_000},
        classes=200,
        needs={'train': ('wnids.txt', 'train'), 'val': ('wnids.txt', 'val/val_annotations.txt')},
        places=('tiny-imagenet-200', ''),
        page='http://cs231n.stanford.edu/tiny-imagenet-200.zip',
        access='for research, under the terms of ImageNet',
        download='248 MB',
        put='the folder tiny-imagenet-200 of tiny-imagenet-200.zip there, unpacked',
        archives=lambda: (
            Archive(
                'tiny-imagenet-200.zip',
                'http://cs231n.stanford.edu/tiny-imagenet-200.zip',
                gives='tiny-imagenet-200',
            ),
        ),
    )

    def __init__(
        self,
        root: str | os.PathLike = 'data',
        split: str = 'train',
        per_class: int | None = None,
        subset_seed: int = 0,
        allow_subset: bool = False,
    ) -> None:
        check_choice('split', split, ('train', 'val', 'test'))
        split = 'train' if split == 'train' else 'val'
        base = self.official.locate(root, split)
        wnids = sorted((base / 'wnids.txt').read_text().split())
        files = _list_train(base, wnids) if split == 'train' else _list_val(base, wnids)
        self.official.check(split, len(files), len(wnids), base, allow_subset)
        words = base / 'words.txt'
        lines = words.read_text().splitlines() if words.is_file() else []
        names = dict(line.split('\t', 1) for line in lines if '\t' in line)
        super().__init__(
            torch.from_numpy(_load(base, split, files)),
            torch.tensor([label for _, label in files]),
            [names.get(wnid, wnid) for wnid in wnids],
            per_class=per_class if split == 'train' else None,
            subset_seed=subset_seed,
        )
        self.wnids = tuple(wnids)
