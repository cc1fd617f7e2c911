"""The base of published data sets that are image files in their official layout."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

from openmixup.datasets.checks import check_choice
from openmixup.datasets.image_files import ImageFiles
from openmixup.datasets.official import Official
from openmixup.errors import InputError, printable

__all__ = ['Listing', 'OfficialImages', 'inside', 'lines_of', 'whole_number']


class Listing(NamedTuple):
    """What the files of a data set say about one of its parts.

    Args:
        paths: image files.
        labels: class numbers, or targets of a regression, one for each path.
        classes: official names in the official order; None for regression.
    """

    paths: Sequence[Path]
    labels: Sequence[float]
    classes: Sequence[str] | None


class OfficialImages(ImageFiles):
    """Image files of a published data set; a subclass says how its lists are read.

    Args:
        root: the folder of the data set, or the one that holds it.
        split: a part with its official name; 'val' and 'test' mean the same where only one of them is published.
        size: side, or (height, width), of the samples in pixels.
        crop: arguments of :class:`SampleCrop`; random in the training part only.
        seed: seed of the crops.
        on_error: 'raise' or 'skip' for an unreadable image; by default 'skip' in training and 'raise' elsewhere.
        bad_image_budget: unreadable images that are skipped before one raises; below 1 a share of all images.
        allow_subset: take fewer images or classes than were published.

    Raises:
        InputError: an unknown split, missing or damaged lists, or another number of images or classes.
    """

    official: ClassVar[Official]
    training: ClassVar[tuple[str, ...]] = ('train', 'trainval')

    def __init__(
        self,
        root: str | os.PathLike = 'data',
        split: str = 'train',
        size: int | Sequence[int] = 224,
        crop: dict | None = None,
        seed: int = 0,
        on_error: str | None = None,
        bad_image_budget: float = 10,
        allow_subset: bool = False,
    ) -> None:
        known = tuple(self.official.splits)
        check_choice('split', split, tuple(dict.fromkeys((*known, 'val', 'test'))))
        if split not in known:
            split = 'val' if split == 'test' else 'test'
        base = self.official.locate(root, split)
        try:
            found = self.read(base, split)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f'{base} cannot be read ({error}): run `{self.official.command}`.') from error
        self.official.check(split, len(found.paths), len(found.classes or ()), base, allow_subset)
        if not found.paths:
            raise InputError(f'{base} has no {split} image: run `{self.official.command}`.')
        if found.classes is not None and not 0 <= min(found.labels) <= max(found.labels) < len(found.classes):
            raise InputError(
                f'{base} has labels from {min(found.labels)} to {max(found.labels)} for {len(found.classes)} classes: '
                f'run `{self.official.command}`.'
            )
        super().__init__(*found, size, split in self.training, crop, seed, on_error, bad_image_budget)

    @classmethod
    @abstractmethod
    def read(cls, base: Path, split: str) -> Listing:
        """The images of ``split``, one of the official names, in a folder that has all that it needs."""


def lines_of(file: Path, fields: int, separator: str = ' ') -> list[list[str]]:
    """The lines of a list, each divided at the first separators into so many fields; empty ones are passed over.

    Raises:
        InputError: a line with fewer fields.
    """
    made = []
    for number, line in enumerate(file.read_text(encoding='utf-8').splitlines(), 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.strip().split(separator, fields - 1)]
        if len(parts) < fields:
            raise InputError(
                f'{file}, line {number}: {printable(line)!r} has fewer than {fields} fields; fetch the list again.'
            )
        made.append(parts)
    return made


def whole_number(file: Path, text: str, low: int, high: int) -> int:
    """A number of a list.

    Raises:
        InputError: no whole number from ``low`` to ``high``.
    """
    if not (text.isascii() and text.isdecimal()) or not low <= int(text[:20]) <= high:
        raise InputError(f'{file}: {printable(text)!r} is not a number from {low} to {high}; fetch the list again.')
    return int(text)


def inside(base: Path, name: str, file: Path) -> Path:
    """The path of a file that a list names, which must lie below ``base``.

    Raises:
        InputError: it lies elsewhere.
    """
    if name.startswith('/') or '\\' in name or '..' in PurePosixPath(name).parts or not name:
        raise InputError(f'{file} names {printable(name)!r}, which is not below {base}; fetch the list again.')
    return base / name
