"""Stanford Cars, whose lists torchvision reads."""

from __future__ import annotations

import os
from pathlib import Path

from openmixup.datasets.official import Archive, Official
from openmixup.datasets.official_images import Listing, OfficialImages, inside
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['StanfordCars']

_FOLDER = 'stanford_cars'


@DATASETS.register_module()
class StanfordCars(OfficialImages):
    """Cars in 196 models: 8,144 images for training, 8,041 for the test.

    Read from ``stanford_cars`` by torchvision's class: cars_train/, cars_test/, devkit/ and
    cars_test_annos_withlabels.mat. The official page is gone.

    Source: Krause et al., "3D Object Representations for Fine-Grained Categorization", 2013.

    Args:
        root: the folder stanford_cars, or the one that holds it.
        split: 'train' or 'test'.
        size: see :class:`OfficialImages`, as are all other arguments.
    """

    official = Official(
        name='cars',
        title='Stanford-Cars',
        splits={'train': 8_144, 'test': 8_041},
        classes=196,
        needs={
            'train': ('devkit/cars_meta.mat', 'devkit/cars_train_annos.mat', 'cars_train'),
            'test': ('devkit/cars_meta.mat', 'cars_test_annos_withlabels.mat', 'cars_test'),
        },
        places=(_FOLDER, ''),
        page='https://ai.stanford.edu/~jkrause/cars/car_dataset.html (gone; copies are on kaggle.com)',
        access='for research, not for profit',
        download='2.0 GB',
        put='cars_train.tgz, cars_test.tgz, car_devkit.tgz and cars_test_annos_withlabels.mat of a copy, since the '
        f'official page is gone, into {_FOLDER} there and run the command again',
        archives=lambda: (
            Archive('cars_train.tgz', gives=f'{_FOLDER}/cars_train', into=_FOLDER),
            Archive('cars_test.tgz', gives=f'{_FOLDER}/cars_test', into=_FOLDER),
            Archive('car_devkit.tgz', gives=f'{_FOLDER}/devkit', into=_FOLDER),
        ),
    )

    @classmethod
    def read(cls, base: Path, split: str) -> Listing:
        """Let torchvision read the lists."""
        from torchvision.datasets import StanfordCars as Theirs

        if base.resolve().name != _FOLDER:
            raise InputError(f'{base} holds Stanford-Cars under another name: rename it to {_FOLDER}.')
        try:
            made = Theirs(base.resolve().parent, split)
            names = [os.path.relpath(file, base.resolve()) for file, _ in made._samples]
            labels = [int(label) for _, label in made._samples]
            classes = [str(name) for name in made.classes]
        except Exception as error:  # scipy raises nearly anything on a damaged .mat file
            raise InputError(f'{base}: a .mat file cannot be read ({error}); fetch it again.') from error
        return Listing([inside(base, name, made._annotations_mat_path) for name in names], labels, classes)
