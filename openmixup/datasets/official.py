"""What is known of a published data set: sizes of its parts, where its files belong and where they come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from openmixup.errors import InputError

__all__ = ['Archive', 'Official', 'first_of']


@dataclass(frozen=True)
class Archive:
    """A file that a data set is fetched as.

    Args:
        name: of the file, below the root.
        url: where it is fetched from; '': its owners give it out by hand only.
        md5: hash that torchvision knows; '': none is known.
        gives: what of its content lies below the root at last; alternatives stand between '|'. '': the file is used as
            it is.
        into: folder below the root that it is unpacked into.
        nested: the archive holds one archive for each class, each of which becomes a folder.
    """

    name: str
    url: str = ''
    md5: str = ''
    gives: str = ''
    into: str = ''
    nested: bool = False


@dataclass(frozen=True)
class Official:
    """A published data set.

    Args:
        name: short name, as of ``tools/prepare_data.py``.
        title: its name in texts.
        splits: number of images of each part, as published; they were not counted in the files.
        classes: number of classes; 0: the labels are numbers, as of ages.
        needs: files and folders, below one of ``places``, without which a part cannot be read; alternatives stand
            between '|'.
        places: folders below the root where they are looked for.
        page: where it is published.
        access: licence, or what it may be used for.
        download: size of what is fetched.
        put: what to put where, for those who fetch it by hand.
        archives: the files that it is fetched as; asked for when needed, since torchvision knows some of them.
        hashes: MD5 of files below the place, as far as torchvision knows them.
        elsewhere: other folders where it may lie.
    """

    name: str
    title: str
    splits: Mapping[str, int]
    classes: int
    needs: Mapping[str, tuple[str, ...]]
    places: tuple[str, ...]
    page: str
    access: str
    download: str
    put: str
    archives: Callable[[], tuple[Archive, ...]] = tuple
    hashes: Callable[[], Mapping[str, str]] = dict
    elsewhere: Callable[[], tuple[Path, ...]] = tuple

    @property
    def command(self) -> str:
        """The command that prepares it, without its root."""
        return f'python tools/prepare_data.py {self.name}'

    def find(self, root: str | os.PathLike | None, split: str) -> Path | None:
        """The folder that holds all that ``split`` needs; None: there is none below ``root``.

        Args:
            root: None: 'data', and first where a package of the system may have put it.
            split: one of :attr:`splits`.
        """
        below = [Path(root if root is not None else 'data') / place for place in self.places]
        places = [*below, *self.elsewhere()] if root is not None else [*self.elsewhere(), *below]
        return next((p for p in places if all(first_of(p, need) for need in self.needs[split])), None)

    def by_hand(self, root: str | os.PathLike, split: str, reason: str = '') -> InputError:
        """The error that says that ``split`` is not there and could not be fetched, and what to put where."""
        return InputError(f'{self.title} ({split}) is not in {root}{reason}: put {self.put}; its page is {self.page}.')

    def locate(self, root: str | os.PathLike | None, split: str) -> Path:
        """The folder that holds all that ``split`` needs.

        Raises:
            InputError: there is none below ``root``.
        """
        found = self.find(root, split)
        if found is None:
            root = root if root is not None else 'data'
            raise InputError(
                f'{self.title} ({split}) is not in {root}: run `{self.command} --root {root}`, or put {self.put}.'
            )
        return found

    def check(self, split: str, images: int, classes: int, place: Path, allow_subset: bool = False) -> None:
        """Compare what was found with what was published.

        Args:
            split: one of :attr:`splits`.
            images: number of images that were found.
            classes: number of classes that were found.
            place: where, for the message.
            allow_subset: a part of the images and classes will do.

        Raises:
            InputError: there are more or fewer.
        """
        expected = self.splits[split]
        if allow_subset or (images, classes) == (expected, self.classes):
            return
        kinds, found = (f' in {n:,} classes' if self.classes else '' for n in (self.classes, classes))
        raise InputError(
            f'{self.title} has {expected:,} {split} images{kinds}, but {place} has {images:,}{found}: complete it and '
            f'check it by `{self.command}`, or use it as it is with allow_subset=True.'
        )


def first_of(place: Path, names: str) -> Path | None:
    """The first of the ``names``, separated by '|', that is there below ``place``."""
    return next((place / name for name in names.split('|') if (place / name).exists()), None)
