"""Where the files of a data set are looked for, and how torchvision fetches them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openmixup.errors import InputError

__all__ = ['find_or_download']


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock file, so that of several processes on one machine only one downloads."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: the processes may download twice
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / '.download.lock', 'w') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fetch(name: str, root: str | os.PathLike) -> None:
    """Let torchvision fetch the archives, compare them with the hashes that it knows, and unpack them.

    Its constructor would go on to unpickle what it found; here only the download is called.
    """
    import torchvision

    kind = getattr(torchvision.datasets, name)
    bare = kind.__new__(kind)
    bare.root = str(root)
    bare.download()


def find_or_download(
    name: str, find: Callable[[], Path | None], root: str | os.PathLike, download: bool, remedy: str
) -> Path:
    """The folder that holds the files, after a download where that is allowed.

    Args:
        name: name of the torchvision data set class that can download the files.
        find: looks for the files; None if they are not there.
        root: folder to download into.
        download: fetch missing files.
        remedy: which files to put where, for the error.

    Raises:
        InputError: the files are missing, or the download failed.
    """
    found = find()
    if found is not None:
        return found
    reason = ''
    if download:
        try:
            with _locked(Path(root)):
                found = find()  # another process may have fetched them meanwhile
                if found is None:
                    _fetch(name, root)
                    found = find()
        except (OSError, RuntimeError) as error:
            reason = f' (the download failed: {" ".join(str(error).split())})'
    if found is None:
        also = '' if download else ', or pass download=True'
        raise InputError(f'the files of {name} are not there{reason}: {remedy}{also}.')
    return found
