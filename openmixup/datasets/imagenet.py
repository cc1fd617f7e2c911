"""ImageNet-1k (ILSVRC 2012) in the layouts that torchvision knows."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from openmixup.datasets.official import Archive, Official
from openmixup.datasets.official_images import Listing, OfficialImages
from openmixup.errors import InputError, printable
from openmixup.registry import DATASETS

__all__ = ['ImageNet']

_META = 'meta.bin'  # written by torchvision from the development kit


def _archives() -> tuple[Archive, ...]:
    from torchvision.datasets.imagenet import ARCHIVE_META

    (train, train_md5), (val, val_md5) = ARCHIVE_META['train'], ARCHIVE_META['val']
    return (
        Archive(train, md5=train_md5, gives='imagenet/train|train', into='imagenet/train', nested=True),
        Archive(val, md5=val_md5, gives='imagenet/val|val', into='imagenet/val'),
    )


@lru_cache(1)
def _names() -> dict[str, str]:
    """Name of each of the 1,000 classes by its wnid, in the order of the wnids, from timm's copy of the lists."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return {wnid: info.label_name_to_description(wnid) for wnid in sorted(info.label_names())}


def _files(folder: Path) -> list[Path]:
    return sorted(folder / name for name in os.listdir(folder) if name.lower().endswith(('.jpeg', '.jpg')))


@DATASETS.register_module()
class ImageNet(OfficialImages):
    """ILSVRC 2012 in 1,000 classes: 1,281,167 images for training, 50,000 for the validation.

    Read from train/WNID/*.JPEG and val/WNID/*.JPEG in ``imagenet``. A val/ without class folders, as its archive gives
    it, is read where torchvision's meta.bin lies beside it, which ``tools/prepare_data.py imagenet`` makes from the
    development kit. Labels follow the sorted order of the wnids. With ``allow_subset`` those classes count that
    train/ has, or val/ where there is no train/.

    Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015. Names of the classes:
    timm.

    Args:
        root: the folder imagenet, or the one that holds it.
        split: 'train' or 'val'.
        size: see :class:`OfficialImages`, as are all other arguments.
    """

    official = Official(
        name='imagenet',
        title='ImageNet-1k',
        splits={'train': 1_281_167, 'val': 50_000},
        classes=1_000,
        needs={'train': ('train',), 'val': ('val',)},
        places=('imagenet', ''),
        page='https://image-net.org/challenges/LSVRC/2012/2012-downloads.php',
        access='for research, not for profit, after registration',
        download='145 GB',
        put='ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into imagenet there and '
        'run the command again',
        archives=_archives,
    )

    @classmethod
    def read(cls, base: Path, split: str) -> Listing:
        """List the class folders, or the validation images by torchvision's meta.bin."""
        names = _names()
        known = base / ('train' if (base / 'train').is_dir() else 'val')
        wnids = sorted(entry.name for entry in os.scandir(known) if entry.is_dir())
        strange = [wnid for wnid in wnids if wnid not in names]
        if strange or (split == 'train' and not wnids):
            found = f'the folder {printable(strange[0])!r}' if strange else 'no folder'
            raise InputError(
                f'{known} has {found}, but the class folders of {cls.official.title} are named by wnids, such as '
                "n01440764: give the folder of ImageNet, or use type='ImageFolder' for other images."
            )
        wnids = wnids or list(names)
        label_of = {wnid: label for label, wnid in enumerate(wnids)}
        if split == 'val' and not any(entry.is_dir() for entry in os.scandir(base / 'val')):
            pairs = [(file, label_of[wnid]) for file, wnid in cls._validation(base) if wnid in label_of]
        else:
            folders = ((base / split / wnid, label) for wnid, label in label_of.items())
            pairs = [(file, label) for folder, label in folders if folder.is_dir() for file in _files(folder)]
        return Listing([file for file, _ in pairs], [label for _, label in pairs], [names[wnid] for wnid in wnids])

    @classmethod
    def _validation(cls, base: Path) -> list[tuple[Path, str]]:
        """Files and wnids of the validation images without class folders."""
        from torchvision.datasets.imagenet import load_meta_file

        if not (base / _META).is_file():
            raise InputError(
                f'{base / "val"} has no class folders, and without {_META} the classes of its images are not known: '
                f'put ILSVRC2012_devkit_t12.tar.gz into {base} and run `{cls.official.command} --root {base}`.'
            )
        files = _files(base / 'val')
        try:
            wnids = list(load_meta_file(str(base))[1])
        except Exception as error:  # torch raises nearly anything on a damaged file
            raise InputError(
                f'{base / _META} cannot be read ({error}); remove it and prepare the data again.'
            ) from error
        if len(files) != len(wnids):
            raise InputError(
                f'{base / "val"} has {len(files):,} images and {_META} knows {len(wnids):,}: without all of them their '
                'classes are not known; unpack ILSVRC2012_img_val.tar again.'
            )
        return list(zip(files, wnids, strict=True))
