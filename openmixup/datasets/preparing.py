"""Which published data sets there are, and how one is brought into a folder and verified."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from openmixup.datasets.fetching import fetch
from openmixup.datasets.official import Official, first_of
from openmixup.errors import InputError, did_you_mean
from openmixup.registry import DATASETS

__all__ = ['absent', 'find_published', 'prepare', 'published', 'read_devkit', 'verify']

_DEVKIT = 'ILSVRC2012_devkit_t12.tar.gz'


def published() -> dict[str, Any]:
    """The registered data sets that say by ``official`` what was published, by their short names."""
    DATASETS.import_from_location()
    found = {kind.official.name: kind for kind in DATASETS.module_dict.values() if _official(kind)}
    return dict(sorted(found.items()))


def _official(kind: Any) -> bool:
    return isinstance(getattr(kind, 'official', None), Official)


def find_published(name: str) -> Any:
    """The class of a published data set.

    Raises:
        InputError: there is none of that name.
    """
    known = published()
    by_type = {kind.__name__: kind for kind in known.values()}
    if name not in known and name not in by_type:
        raise InputError(f'there is no data set {name!r}{did_you_mean(name, known)} (known: {", ".join(known)}).')
    return known.get(name) or by_type[name]


def absent(paths: Sequence[Path]) -> list[Path]:
    """Those of the ``paths`` where no file is; each folder is listed once."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        by_folder[path.parent].append(path)
    missing = []
    for folder, files in by_folder.items():
        names = set(os.listdir(folder)) if folder.is_dir() else set()
        missing += [file for file in files if file.name not in names]
    return missing


def verify(kind: Any, root: str | os.PathLike) -> dict[str, int]:
    """Compare what lies below ``root`` with what was published: files, hashes that torchvision knows, and numbers.

    Args:
        kind: class of a published data set.
        root: folder that holds it.

    Returns:
        Number of images of each part.

    Raises:
        InputError: a part is missing or incomplete, or a file is not the official one.
    """
    official: Official = kind.official
    counts = {}
    for split in official.splits:
        place = official.locate(root, split)
        if split == next(iter(official.splits)):
            _check_hashes(official, place)
        made = kind(root=root, split=split)
        missing = absent(getattr(made, 'paths', ()))
        if missing:
            raise InputError(
                f'{official.title} lacks {len(missing):,} of its {official.splits[split]:,} {split} images, such as '
                f'{missing[0]}: unpack its archives again.'
            )
        counts[split] = len(made)
    return counts


def _check_hashes(official: Official, place: Path) -> None:
    from torchvision.datasets.utils import calculate_md5

    for name, md5 in official.hashes().items():
        file = place / name
        found = calculate_md5(file) if file.is_file() else md5
        if found != md5:
            raise InputError(
                f'{file} is not the official file: its MD5 is {found} and not {md5}; fetch it again, or say beside '
                'each figure that the data is a copy.'
            )


def prepare(kind: Any, root: str | os.PathLike, say: Callable[[str], None]) -> dict[str, int]:
    """Fetch and unpack what is missing below ``root``, then verify all of it.

    Args:
        kind: class of a published data set.
        root: folder that gets it.
        say: is told what is done.

    Returns:
        Number of images of each part.

    Raises:
        InputError: it cannot be fetched without its owners' consent, or is damaged.
    """
    official: Official = kind.official
    if any(official.find(root, split) is None for split in official.splits):
        fetch(official, root, say)
        for split in official.splits:
            if official.find(root, split) is None:
                raise official.by_hand(root, split)
    if official.name == 'imagenet':
        read_devkit(official, Path(root), say)
    return verify(kind, root)


def read_devkit(official: Official, root: Path, say: Callable[[str], None]) -> None:
    """Let torchvision write meta.bin, the classes of the validation images, from the development kit beside them."""
    from torchvision.datasets.imagenet import META_FILE, parse_devkit_archive

    place = official.find(root, 'val')
    if place is None or (place / META_FILE).is_file():
        return
    kit = first_of(place, _DEVKIT) or first_of(root, _DEVKIT)
    if kit is None:
        return
    say(f'reading {kit}')
    work = place / '.part'
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        parse_devkit_archive(str(work), str(kit.resolve()))  # compares it with its hash first
        os.replace(work / META_FILE, place / META_FILE)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f'{kit} cannot be read ({error}): fetch it again from {official.page}.') from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
