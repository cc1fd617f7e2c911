"""Where the files of a data set are found, after a download if that is asked for."""

from __future__ import annotations

import os
from pathlib import Path

from openmixup.datasets.fetching import fetch
from openmixup.datasets.official import Archive, Official

__all__ = ['find_or_download', 'known_archive']


def known_archive(name: str, gives: str) -> tuple[Archive, ...]:
    """The archive that a data set of torchvision is fetched as, with torchvision's hash.

    Args:
        name: of the class in torchvision.datasets.
        gives: what it unpacks to.
    """
    import torchvision

    kind = getattr(torchvision.datasets, name)
    return (Archive(kind.filename, kind.url, kind.tgz_md5, gives),)


def find_or_download(official: Official, root: str | os.PathLike | None, split: str, download: bool) -> Path:
    """The folder that holds the files of ``split``.

    Args:
        official: the data set.
        root: folder to look in, and to download into.
        split: one of its parts.
        download: fetch missing files.

    Raises:
        InputError: the files are missing, or the download failed.
    """
    if download and official.find(root, split) is None:
        fetch(official, root if root is not None else 'data')
    return official.locate(root, split)
