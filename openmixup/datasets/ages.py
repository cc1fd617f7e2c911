"""Ages of faces as numbers: AgeDB and IMDB-WIKI, with the lists of a published split."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from openmixup.datasets.official import Archive, Official
from openmixup.datasets.official_images import Listing, OfficialImages, inside
from openmixup.errors import InputError, printable
from openmixup.registry import DATASETS

__all__ = ['AgeDB', 'IMDBWIKI']

_LISTS = 'https://github.com/YyzHarry/imbalanced-regression'
_COLUMNS = ('age', 'path', 'split')


class _Ages(OfficialImages):
    """What both share: a list with the columns age, path and split; the labels are ages in years."""

    @classmethod
    def read(cls, base: Path, split: str) -> Listing:
        """The rows of ``split``, in the order of the list."""
        file = base / f'{cls.official.name}.csv'
        paths: list[Path] = []
        ages: list[float] = []
        with file.open(newline='', encoding='utf-8') as stream:
            rows = csv.DictReader(stream)
            if not set(_COLUMNS) <= set(rows.fieldnames or ()):
                raise InputError(f'{file} has not the columns {", ".join(_COLUMNS)}; fetch it from {_LISTS}.')
            for number, row in enumerate(rows, 2):
                if row['split'] not in cls.official.splits:
                    raise InputError(f'{file}, line {number}: {printable(row["split"])!r} is no split; fetch it again.')
                if row['split'] == split:
                    paths.append(inside(base, row['path'] or '', file))
                    ages.append(_age(file, number, row['age']))
        return Listing(paths, ages, None)


def _age(file: Path, number: int, text: str | None) -> float:
    try:
        age = float(text or '')
    except ValueError:
        age = math.nan
    if not 0 <= age <= 200:
        raise InputError(f'{file}, line {number}: {printable(text)!r} is no age in years; fetch the list again.')
    return age


@DATASETS.register_module()
class AgeDB(_Ages):
    """Faces and their ages: 12,208 images for training, 2,140 each for the validation and the test.

    Read from agedb.csv (columns age, path, split), which with the folder AgeDB lies in ``agedb``. AgeDB has no split of
    its own; the list is that of AgeDB-DIR, whose validation and test parts are balanced over the ages.

    Unsure: the numbers of images, which were not compared with the list.

    Source: Moschoglou et al., "AgeDB: the first manually collected, in-the-wild age database", CVPR workshops 2017;
    the split: Yang et al., "Delving into Deep Imbalanced Regression", ICML 2021.

    Args:
        root: the folder agedb, or the one that holds it.
        split: 'train', 'val' or 'test'.
        size: see :class:`OfficialImages`, as are all other arguments.
    """

    official = Official(
        name='agedb',
        title='AgeDB',
        splits={'train': 12_208, 'val': 2_140, 'test': 2_140},
        classes=0,
        needs=dict.fromkeys(('train', 'val', 'test'), ('agedb.csv', 'AgeDB')),
        places=('agedb', ''),
        page='https://ibug.doc.ic.ac.uk/resources/agedb/',
        access='for research, not for profit, by request to its authors',
        download='not published',
        put=f'agedb.csv of {_LISTS} (agedb-dir/data) and the folder AgeDB, which its authors give out by request, into '
        'agedb there',
    )


@DATASETS.register_module()
class IMDBWIKI(_Ages):
    """Faces of films and of Wikipedia and their ages: 191,509 images for training, 11,022 each for validation and test.

    Read from imdb_wiki.csv (columns age, path, split), which with the folders imdb_crop and wiki_crop lies in
    ``imdb_wiki``. The list is that of IMDB-WIKI-DIR, which leaves out images without one clear face and impossible
    ages.

    Unsure: the numbers of images, which were not compared with the list, and the addresses; no hash is known.

    Source: Rothe et al., "Deep Expectation of Real and Apparent Age from a Single Image Without Facial Landmarks", IJCV
    2018; the split: Yang et al., "Delving into Deep Imbalanced Regression", ICML 2021.

    Args:
        root: the folder imdb_wiki, or the one that holds it.
        split: 'train', 'val' or 'test'.
        size: see :class:`OfficialImages`, as are all other arguments.
    """

    official = Official(
        name='imdb_wiki',
        title='IMDB-WIKI',
        splits={'train': 191_509, 'val': 11_022, 'test': 11_022},
        classes=0,
        needs=dict.fromkeys(('train', 'val', 'test'), ('imdb_wiki.csv', 'imdb_crop', 'wiki_crop')),
        places=('imdb_wiki', ''),
        page='https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/',
        access='for research, not for profit; the images belong to their owners',
        download='8 GB',
        put=f'imdb_wiki.csv of {_LISTS} (imdb-wiki-dir/data) and the folders imdb_crop and wiki_crop into imdb_wiki '
        'there',
        archives=lambda: tuple(
            Archive(
                f'{name}.tar',
                f'https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/static/{name}.tar',
                gives=f'imdb_wiki/{name}',
                into='imdb_wiki',
            )
            for name in ('imdb_crop', 'wiki_crop')
        ),
    )
