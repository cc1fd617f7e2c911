"""Image files in class folders or in a list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from openmixup.datasets.checks import check_choice
from openmixup.datasets.image_files import ImageFiles
from openmixup.datasets.tables import MOST_CLASSES, find_metadata, metadata_rows, numbered
from openmixup.errors import InputError
from openmixup.randomness import keyed_generator
from openmixup.registry import DATASETS

__all__ = ['ImageFolder', 'ImageList']

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
_TEST_FOLDERS = ('val', 'validation', 'test')


def _scan(root: Path, whole: Path | None = None) -> tuple[list[Path], list[int], list[str]]:
    """Files, labels and class names of a tree of class folders, all in sorted order, or of its metadata table.

    Args:
        root: the folder.
        whole: its parent, whose metadata table may speak of it.
    """
    tables = ((find_metadata(root), ''), (find_metadata(whole) if whole else None, root.name))
    for table, part in tables:
        if table is not None:
            named, values = metadata_rows(table, part)
            if not named:
                raise InputError(f'{table} has no image of {root}: add its rows.')
            return named, *numbered(values, None, str(table))
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith('.'))
    if not classes:
        raise InputError(f'{root} has no class folders; put the images of each class into a folder of its own there.')
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [
            Path(folder, file)
            for folder, _, files in os.walk(root / name, followlinks=True)
            for file in files
            if file.lower().endswith(EXTENSIONS) and not file.startswith('.')
        ]
        if not found:
            raise InputError(
                f'the class folder {root / name} holds no image ({", ".join(EXTENSIONS)}); '
                'add some or remove the folder.'
            )
        paths += sorted(found)
        labels += [label] * len(found)
    return paths, labels, classes


def _refuse_half_divided(base: Path) -> None:
    """Refuse train/ with class folders in it but no partner; a train/ that holds images itself is a class."""
    train = base / 'train'
    if not train.is_dir():
        return
    entries = [entry for entry in os.scandir(train) if not entry.name.startswith('.')]
    images = any(entry.is_file() and entry.name.lower().endswith(EXTENSIONS) for entry in entries)
    if find_metadata(train) or (not images and any(entry.is_dir() for entry in entries)):
        raise InputError(
            f'{base} has the folder train/ but neither val/ nor test/; name the validation folder val/, or give '
            f'root={str(train)!r} to hold images out of it.'
        )


def _held_out(labels: list[int], num_classes: int, fraction: float, seed: int) -> list[bool]:
    """Which files are held out: of each class the given share, at least one, drawn from its files in sorted order."""
    held = [False] * len(labels)
    members: list[list[int]] = [[] for _ in range(num_classes)]
    for i, label in enumerate(labels):
        members[label].append(i)
    for label, files in enumerate(members):
        count = max(1, round(fraction * len(files)))
        if files and count >= len(files):
            raise InputError(
                f'val_fraction={fraction} leaves no training image of class number {label}, which has {len(files)} '
                'in all; lower it or add images.'
            )
        for k in torch.randperm(len(files), generator=keyed_generator(seed, 'holdout', label))[:count].tolist():
            held[files[k]] = True
    return held


@DATASETS.register_module()
class ImageFolder(ImageFiles):
    """Class folders, named and numbered in sorted order as torchvision's ``ImageFolder`` does.

    Where ``root`` has folders train/ and val/ (or validation/, or test/), these are the splits. Else ``root`` itself
    holds the class folders, and a share of each class is held out. In place of class folders there may be a table
    metadata.csv or metadata.jsonl with file_name and label, beside the images or beside train/, as Hugging Face's
    ``datasets`` reads it; its labels are names, or class numbers.

    Args:
        root: folder of the class folders, or of train/ and val/ or validation/.
        split: 'train', 'val', 'test' (where there is only one of these two, both mean it) or 'all' (all class folders
            of an undivided ``root``).
        size: side, or (height, width), of the samples in pixels.
        split_file: text file with one path, relative to the class folders' parent, in each line: only these are used.
        val_fraction: share of each class held out from an undivided ``root``, 0 to below 1; at least one image a class
            unless 0. A ``root`` that is divided, or a ``split_file``, has a split of its own, so that it is not read.
        seed: seed of the crops and of that draw.
        crop: arguments of :class:`SampleCrop`, for example ``dict(interpolation='bicubic')``; random in 'train' only.
        on_error: 'raise' or 'skip' for an unreadable image; by default 'skip' in 'train' and 'raise' elsewhere.
        bad_image_budget: unreadable images that are skipped before one raises; below 1 a share of all images.

    Raises:
        InputError: a missing root, train/ without val/ or test/, no class folder, an empty one, an unknown split, or a
            file of ``split_file`` that is not there.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        split: str = 'train',
        size: int | Sequence[int] = 224,
        split_file: str | os.PathLike | None = None,
        val_fraction: float = 0.1,
        seed: int = 0,
        crop: dict | None = None,
        on_error: str | None = None,
        bad_image_budget: float = 10,
    ) -> None:
        check_choice('split', split, ('train', 'val', 'test', 'all'))
        base = Path(root)
        if not base.is_dir():
            raise InputError(f'root={str(root)!r} is not a folder; give the one that holds the class folders.')
        if not 0 <= val_fraction < 1:
            raise InputError(f'val_fraction={val_fraction}: give a share from 0 to below 1.')
        divided = (base / 'train').is_dir() and any((base / name).is_dir() for name in _TEST_FOLDERS)
        if divided:
            paths, labels, classes = self._read_divided(base, split)
        else:
            _refuse_half_divided(base)
            paths, labels, classes = _scan(base)
            if split in _TEST_FOLDERS and not val_fraction and split_file is None:
                raise InputError(
                    f'split={split!r}, but {base} has no folders train/ and val/; '
                    'make them or hold images out with val_fraction=0.1.'
                )
            if val_fraction and split != 'all' and split_file is None:
                held = _held_out(labels, len(classes), val_fraction, seed)
                keep = [i for i, out in enumerate(held) if out == (split != 'train')]
                paths, labels = [paths[i] for i in keep], [labels[i] for i in keep]
        if split_file is not None:
            paths, labels = self._restrict(paths, labels, Path(split_file), base, divided)
        super().__init__(paths, labels, classes, size, split == 'train', crop, seed, on_error, bad_image_budget)

    @staticmethod
    def _read_divided(base: Path, split: str) -> tuple[list[Path], list[int], list[str]]:
        if split == 'all':
            raise InputError(f'{base} has train/ and val/ already: use split="train" or "val".')
        names = [split] if split == 'train' else [split, *(n for n in _TEST_FOLDERS if n != split)]
        paths, labels, classes = _scan(next(base / name for name in names if (base / name).is_dir()), base)
        if split != 'train':
            if find_metadata(base / 'train') or find_metadata(base):
                known = _scan(base / 'train', base)[2]
            else:
                known = sorted(e.name for e in os.scandir(base / 'train') if e.is_dir() and not e.name.startswith('.'))
            strange = sorted(set(classes) - set(known))
            if strange:
                part = base / paths[0].relative_to(base).parts[0]
                raise InputError(f'{part} has the class {strange[0]!r}, which {base / "train"} has not.')
            number = {name: i for i, name in enumerate(known)}
            labels, classes = [number[classes[i]] for i in labels], known
        return paths, labels, classes

    @staticmethod
    def _restrict(
        paths: list[Path], labels: list[int], file: Path, base: Path, divided: bool
    ) -> tuple[list[Path], list[int]]:
        if not file.is_file():
            raise InputError(f'split_file={str(file)!r} is not a file; give a text file with one path in each line.')
        place = {p.relative_to(base).as_posix(): i for i, p in enumerate(paths)}
        if divided:  # names below train/ or val/ too
            for name, i in list(place.items()):
                place.setdefault(name.split('/', 1)[1], i)
        keep = []
        for number, line in enumerate(file.read_text().splitlines(), 1):
            name = line.strip()
            if name and name not in place:
                raise InputError(f'{file}, line {number}: {name!r} is not among the images of {base}.')
            keep += [place[name]] if name else []
        if not keep:
            raise InputError(f'{file} names no image; put one path in each line.')
        return [paths[i] for i in keep], [labels[i] for i in keep]


@DATASETS.register_module()
class ImageList(ImageFiles):
    """The images of a list file: one ``relative/path label`` in each line.

    Args:
        list_file: text file; empty lines are passed over.
        root: folder that the paths are relative to.
        separator: what stands between path and label; the last one in a line counts, so that paths may contain it.
        split: 'train' (random crops) or 'val' / 'test' (central crops).
        size: side, or (height, width), of the samples in pixels.
        classes: names of the classes; by default the numbers '0', '1', ... as far as the largest label.
        seed: seed of the crops.
        crop: arguments of :class:`SampleCrop`.
        on_error: 'raise' or 'skip' for an unreadable image; by default 'skip' in 'train' and 'raise' elsewhere.
        bad_image_budget: unreadable images that are skipped before one raises; below 1 a share of all images.

    Raises:
        InputError: a missing file or root, an empty list, a line without a whole-number label of at least 0.
    """

    def __init__(
        self,
        list_file: str | os.PathLike,
        root: str | os.PathLike,
        separator: str = ' ',
        split: str = 'train',
        size: int | Sequence[int] = 224,
        classes: Sequence[str] | None = None,
        seed: int = 0,
        crop: dict | None = None,
        on_error: str | None = None,
        bad_image_budget: float = 10,
    ) -> None:
        check_choice('split', split, ('train', 'val', 'test'))
        file, base = Path(list_file), Path(root)
        if not file.is_file():
            raise InputError(f'list_file={str(list_file)!r} is not a file; give one with `relative/path label` lines.')
        if not base.is_dir():
            raise InputError(f'root={str(root)!r} is not a folder; give the one that the paths are relative to.')
        paths, labels = [], []
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if not line.strip():
                continue
            name, found, label = line.strip().rpartition(separator)
            if not found or not name.strip() or not label.strip().isdecimal():
                raise InputError(
                    f'{file}, line {number}: {line!r} is not `relative/path{separator}label`, label 0 or more.'
                )
            paths.append(base / name.strip())
            labels.append(int(label))
        if not paths:
            raise InputError(f'{file} names no image; put one `relative/path{separator}label` in each line.')
        if classes is None and max(labels) >= MOST_CLASSES:
            raise InputError(f'{file} has the label {max(labels)}, but labels count classes from 0: number them so.')
        names = tuple(classes) if classes is not None else tuple(str(i) for i in range(max(labels) + 1))
        if max(labels) >= len(names):
            raise InputError(
                f'{file} has the label {max(labels)} with {len(names)} classes; give 0 to {len(names) - 1}.'
            )
        super().__init__(paths, labels, names, size, split == 'train', crop, seed, on_error, bad_image_budget)
