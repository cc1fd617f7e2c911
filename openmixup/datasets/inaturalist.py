"""iNaturalist 2017 and 2018, read from their official annotations.

torchvision's class lists all images of a year: it knows no split.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openmixup.datasets.official import Archive, Official, first_of
from openmixup.datasets.official_images import Listing, OfficialImages, inside
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['INaturalist2017', 'INaturalist2018']

_BUCKET = 'https://ml-inat-competition-datasets.s3.amazonaws.com'
_PAGE = 'https://github.com/visipedia/inat_comp'


def _images(year: str, gives: str) -> Archive:
    """The archive of the images, with the hash that torchvision knows."""
    from torchvision.datasets.inaturalist import DATASET_MD5, DATASET_URLS

    folder = f'inat{year}'
    return Archive(DATASET_URLS[year].rpartition('/')[2], DATASET_URLS[year], DATASET_MD5[year],
                   gives=f'{folder}/{gives}', into=folder)  # fmt: skip


def _annotations(year: str, name: str, gives: str) -> Archive:
    return Archive(name, f'{_BUCKET}/{year}/{name}', gives=gives, into=f'inat{year}')


def _lists(year: str, split: str) -> str:
    """Where the annotations of a part lie: beside the images, or in the folder that an archive may have."""
    return f'{split}{year}.json|train_val{year}/{split}{year}.json'


class _INaturalist(OfficialImages):
    """What both years share: COCO-like JSON with images, annotations and categories."""

    @classmethod
    def read(cls, base: Path, split: str) -> Listing:
        """Join images and annotations by the numbers of the images, in the order of the file."""
        file = first_of(base, cls.official.needs[split][-1]) or base
        content = _parsed(file)
        try:
            kinds = {int(kind['id']): str(kind['name']) for kind in content['categories']}
            label_of = {entry['image_id']: int(entry['category_id']) for entry in content['annotations']}
            found = [(entry['file_name'], label_of[entry['id']]) for entry in content['images']]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f'{file} has not the form of its official annotations ({error}); fetch it again.'
            ) from error
        full = base / 'categories.json'
        if full.is_file():  # names of 2018, which the annotations keep secret
            kinds |= {int(kind['id']): str(kind['name']) for kind in _parsed(full) if int(kind['id']) in kinds}
        if sorted(kinds) != list(range(len(kinds))):
            raise InputError(f'{file} does not number its categories from 0; fetch it again.')
        paths = [inside(base, name, file) for name, _ in found]
        return Listing(paths, [label for _, label in found], [kinds[number] for number in range(len(kinds))])


def _parsed(file: Path) -> Any:
    try:
        with file.open(encoding='utf-8') as stream:
            return json.load(stream)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{file} is no JSON ({error}); fetch it again.') from error


@DATASETS.register_module()
class INaturalist2017(_INaturalist):
    """Plants and animals in 5,089 categories: 579,184 images for training, 95,986 for the validation.

    Read from train2017.json and val2017.json, which with the folder train_val_images lie in ``inat2017``. A class is
    named by its category.

    Unsure: the numbers of images, from memory, and the address of the annotations, of which no hash is known.

    Source: Van Horn et al., "The iNaturalist Species Classification and Detection Dataset", CVPR 2018.

    Args:
        root: the folder inat2017, or the one that holds it.
        split: 'train' or 'val'.
        size: see :class:`OfficialImages`, as are all other arguments.
    """

    official = Official(
        name='inat2017',
        title='iNaturalist-2017',
        splits={'train': 579_184, 'val': 95_986},
        classes=5_089,
        needs={split: ('train_val_images', _lists('2017', split)) for split in ('train', 'val')},
        places=('inat2017', ''),
        page=f'{_PAGE}/tree/master/2017',
        access='for research, not for profit; each image has a licence of its own',
        download='186 GB',
        put='train_val_images.tar.gz and train_val2017.zip into inat2017 there and run the command again',
        archives=lambda: (
            _images('2017', 'train_val_images'),
            _annotations('2017', 'train_val2017.zip', 'inat2017/train2017.json|inat2017/train_val2017/train2017.json'),
        ),
    )


@DATASETS.register_module()
class INaturalist2018(_INaturalist):
    """Plants and animals in 8,142 categories, with a long tail: 437,513 images for training, 24,426 for the validation.

    Read from train2018.json and val2018.json, which with the folder train_val2018 lie in ``inat2018``. The annotations
    name the classes by numbers; where categories.json lies beside them, its names are taken.

    Unsure: the numbers of images, from memory, and the address of the annotations, of which no hash is known.

    Source: iNaturalist 2018 competition of the FGVC5 workshop, CVPR 2018.

    Args:
        root: the folder inat2018, or the one that holds it.
        split: 'train' or 'val'.
        size: see :class:`OfficialImages`, as are all other arguments.
    """

    official = Official(
        name='inat2018',
        title='iNaturalist-2018',
        splits={'train': 437_513, 'val': 24_426},
        classes=8_142,
        needs={split: ('train_val2018', f'{split}2018.json') for split in ('train', 'val')},
        places=('inat2018', ''),
        page=f'{_PAGE}/tree/master/2018',
        access='for research, not for profit; each image has a licence of its own',
        download='120 GB',
        put='train_val2018.tar.gz, train2018.json.tar.gz and val2018.json.tar.gz into inat2018 there and run the '
        'command again',
        archives=lambda: (
            _images('2018', 'train_val2018'),
            _annotations('2018', 'train2018.json.tar.gz', 'inat2018/train2018.json'),
            _annotations('2018', 'val2018.json.tar.gz', 'inat2018/val2018.json'),
            _annotations('2018', 'categories.json.tar.gz', 'inat2018/categories.json'),
        ),
    )
