"""Places205, read from its official lists."""

from __future__ import annotations

from pathlib import Path

from openmixup.datasets.official import Archive, Official, first_of
from openmixup.datasets.official_images import Listing, OfficialImages, inside, lines_of, whole_number
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['Places205']

_IMAGES = 'images256|data/vision/torralba/deeplearning/images256'  # as named on the page, and as in the archive
_LISTS = {split: f'{split}_places205.csv|trainvalsplit_places205/{split}_places205.csv' for split in ('train', 'val')}


@DATASETS.register_module()
class Places205(OfficialImages):
    """Scenes in 205 categories: 2,448,873 images for training, 20,500 for the validation, 256x256 pixels.

    Read from train_places205.csv and val_places205.csv, lists of ``path label``, which with the folder images256 lie in
    ``places205``. A class is named by its folder, such as 'a/abbey'. The labels of the test part were never given out.

    Unsure: the numbers of images, and the folder inside the archive, both from memory.

    Source: Zhou et al., "Learning Deep Features for Scene Recognition using Places Database", NeurIPS 2014.

    Args:
        root: the folder places205, or the one that holds it.
        split: 'train' or 'val'.
        size: see :class:`OfficialImages`, as are all other arguments.
    """

    official = Official(
        name='places205',
        title='Places205',
        splits={'train': 2_448_873, 'val': 20_500},
        classes=205,
        needs={split: (_IMAGES, _LISTS['train'], _LISTS[split]) for split in ('train', 'val')},
        places=('places205', ''),
        page='http://places.csail.mit.edu/downloadData.html',
        access='for research and teaching, after registration; the images belong to their owners',
        download='126 GB',
        put='imagesPlaces205_resize.tar.gz and trainvalsplit_places205.tar.gz into places205 there and run the command '
        'again',
        archives=lambda: (
            Archive(
                'imagesPlaces205_resize.tar.gz',
                gives='|'.join(f'places205/{name}' for name in _IMAGES.split('|')[::-1]),
                into='places205',
            ),
            Archive(
                'trainvalsplit_places205.tar.gz',
                gives='|'.join(f'places205/{name}' for name in _LISTS['train'].split('|')[::-1]),
                into='places205',
            ),
        ),
    )

    @classmethod
    def read(cls, base: Path, split: str) -> Listing:
        """Take paths and labels from the list of the split, and the names of the classes from that of training."""
        images = first_of(base, _IMAGES) or base
        names: dict[int, str] = {}
        paths: list[Path] = []
        labels: list[int] = []
        for part in dict.fromkeys(('train', split)):
            file = first_of(base, _LISTS[part]) or base
            for name, label in lines_of(file, 2):
                number = whole_number(file, label, 0, cls.official.classes - 1)
                folder = name.rpartition('/')[0]
                if names.setdefault(number, folder) != folder:
                    raise InputError(
                        f'{file} has the label {number} for {folder} and {names[number]}; fetch the lists again.'
                    )
                if part == split:
                    paths.append(inside(images, name, file))
                    labels.append(number)
        if sorted(names) != list(range(len(names))):
            raise InputError(f'{base}: the lists have no image of some classes; fetch them again.')
        return Listing(paths, labels, [names[number] for number in range(len(names))])
