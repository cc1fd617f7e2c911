"""FGVC-Aircraft, whose lists torchvision reads."""

from __future__ import annotations

import os
from pathlib import Path

from openmixup.datasets.official import Archive, Official
from openmixup.datasets.official_images import Listing, OfficialImages, inside
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['FGVCAircraft']

_FOLDER = 'fgvc-aircraft-2013b'


def _archives() -> tuple[Archive, ...]:
    from torchvision.datasets import FGVCAircraft as Theirs

    return (Archive(f'{_FOLDER}.tar.gz', Theirs._URL, gives=_FOLDER),)


def _needs(split: str) -> tuple[str, ...]:
    return tuple(f'data/{name}' for name in ('variants.txt', f'images_variant_{split}.txt', 'images'))


@DATASETS.register_module()
class FGVCAircraft(OfficialImages):
    """Aircraft in 100 variants: 6,667 images for training ('trainval'), 3,333 for the test.

    Read from ``fgvc-aircraft-2013b`` by torchvision's class. The band of 20 pixels at the foot of each image, which
    names its owner, is left in. No hash of the archive is known.

    Source: Maji et al., "Fine-Grained Visual Classification of Aircraft", 2013.

    Args:
        root: the folder fgvc-aircraft-2013b, or the one that holds it.
        split: 'trainval', its halves 'train' and 'val', or 'test'.
        size: see :class:`OfficialImages`, as are all other arguments.
    """

    official = Official(
        name='aircraft',
        title='FGVC-Aircraft',
        splits={'trainval': 6_667, 'test': 3_333, 'train': 3_334, 'val': 3_333},
        classes=100,
        needs={split: _needs(split) for split in ('trainval', 'test', 'train', 'val')},
        places=(_FOLDER, ''),
        page='https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/',
        access='for research, not for profit',
        download='2.8 GB',
        put=f'the folder {_FOLDER} of {_FOLDER}.tar.gz there, unpacked',
        archives=_archives,
    )

    @classmethod
    def read(cls, base: Path, split: str) -> Listing:
        """Let torchvision read the lists."""
        from torchvision.datasets import FGVCAircraft as Theirs

        if base.resolve().name != _FOLDER:
            raise InputError(f'{base} holds FGVC-Aircraft under another name: rename it to {_FOLDER}.')
        try:
            made = Theirs(base.resolve().parent, split)
        except (KeyError, ValueError) as error:
            raise InputError(
                f'{base}: the lists of {split} do not fit variants.txt ({error}); unpack them again.'
            ) from error
        file = base / 'data' / f'images_variant_{split}.txt'
        names = [os.path.relpath(path, base.resolve()) for path in made._image_files]
        return Listing([inside(base, name, file) for name in names], made._labels, made.classes)
