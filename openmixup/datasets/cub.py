"""CUB-200-2011, read from its official lists."""

from __future__ import annotations

from pathlib import Path

from openmixup.datasets.official import Archive, Official
from openmixup.datasets.official_images import Listing, OfficialImages, inside, lines_of, whole_number
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['CUB200']

_NEEDS = ('images.txt', 'image_class_labels.txt', 'train_test_split.txt', 'classes.txt', 'images')


@DATASETS.register_module()
class CUB200(OfficialImages):
    """Birds in 200 species: 5,994 images for training, 5,794 for the test.

    Read from images.txt, image_class_labels.txt, train_test_split.txt and classes.txt in ``CUB_200_2011``. Boxes and
    parts are not used. Unsure: the address of the archive, of which no hash is known.

    Source: Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011.

    Args:
        root: the folder CUB_200_2011, or the one that holds it.
        split: 'train' or 'test'.
        size: see :class:`OfficialImages`, as are all other arguments.
    """

    official = Official(
        name='cub200',
        title='CUB-200-2011',
        splits={'train': 5_994, 'test': 5_794},
        classes=200,
        needs=dict.fromkeys(('train', 'test'), _NEEDS),
        places=('CUB_200_2011', ''),
        page='https://www.vision.caltech.edu/datasets/cub_200_2011/',
        access='for research and teaching, not for profit',
        download='1.2 GB',
        put='the folder CUB_200_2011 of CUB_200_2011.tgz there, unpacked',
        archives=lambda: (
            Archive(
                'CUB_200_2011.tgz',
                'https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz',
                gives='CUB_200_2011',
            ),
        ),
    )

    @classmethod
    def read(cls, base: Path, split: str) -> Listing:
        """Join the lists by the numbers of the images, in the order of images.txt."""
        names = lines_of(base / 'classes.txt', 2)
        numbers = [whole_number(base / 'classes.txt', number, 1, len(names)) for number, _ in names]
        if numbers != list(range(1, len(names) + 1)):
            raise InputError(f'{base / "classes.txt"} does not number its classes from 1; fetch it again.')
        labels = dict(lines_of(base / 'image_class_labels.txt', 2))
        parts = dict(lines_of(base / 'train_test_split.txt', 2))
        wanted = {'train': '1', 'test': '0'}[split]
        paths, found = [], []
        for number, name in lines_of(base / 'images.txt', 2):
            if number not in labels or parts.get(number) not in ('0', '1'):
                raise InputError(f'{base}: the lists say nothing of the image {number}; fetch them again.')
            if parts[number] == wanted:
                paths.append(inside(base / 'images', name, base / 'images.txt'))
                found.append(whole_number(base / 'image_class_labels.txt', labels[number], 1, len(names)) - 1)
        return Listing(paths, found, [name for _, name in names])
