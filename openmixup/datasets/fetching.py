"""Fetch and unpack the files of a published data set, so that what is there is whole."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from openmixup.datasets.official import Archive, Official, first_of
from openmixup.errors import InputError, printable

__all__ = ['fetch', 'unpack']

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, LZMAError, NotImplementedError, RuntimeError)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock file, so that of several processes on one machine only one fetches."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such locks on this system: the processes may fetch twice
        yield
        return
    with open(folder / '.download.lock', 'w') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _workplace(root: Path) -> Iterator[Path]:
    """A folder for what is not whole yet; what an earlier process left in it goes."""
    folder = root / '.part'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _quiet(line: str) -> None:
    del line


def fetch(official: Official, root: str | os.PathLike, say: Callable[[str], None] = _quiet) -> None:
    """Fetch what is missing below ``root``, compare it with the hashes that torchvision knows, and unpack it.

    What was fetched or unpacked by half lies in ``root/.part`` and nowhere else. Files that are there are not fetched
    again, and archives that were put there by hand are unpacked.

    Args:
        official: the data set.
        root: folder that gets it.
        say: is told what is done.

    Raises:
        InputError: a file cannot be fetched, is damaged or hostile, or what lies there was unpacked by half.
    """
    base = Path(root)
    try:
        with _locked(base), _workplace(base) as work:
            before = [first_of(base, archive.gives or archive.name) for archive in official.archives()]
            for archive, there in zip(official.archives(), before, strict=True):
                if there is None:
                    _complete(official, archive, base, work, say)
    except OSError as error:  # no room, no right to write, no network
        reason = ' '.join(str(error).split())
        split = next(iter(official.splits))
        raise official.by_hand(root, split, f' (the download failed: {reason})') from error
    again = all(archive.url for archive in official.archives())  # else it is told what to put where
    if before and all(before) and again and any(official.find(root, split) is None for split in official.splits):
        raise InputError(
            f'{" and ".join(map(str, before))} is there, but not complete: remove it, so that it can be fetched and '
            f'unpacked anew, or put {official.put}.'
        )


def _complete(official: Official, archive: Archive, base: Path, work: Path, say: Callable[[str], None]) -> None:
    """Fetch one archive, unless it lies there, and unpack it."""
    names = dict.fromkeys((archive.name, *(f'{place}/{archive.name}' for place in official.places)))
    file = first_of(base, '|'.join(names))
    fetched = file is None
    if file is None:
        if not archive.url:
            return  # what is missing is told by who looks for the data set
        say(f'fetching {archive.url}')
        file = _download(archive, work)
    elif archive.md5 and archive.gives:
        say(f'comparing {file} with its hash')
        _compare(file, archive.md5)
    if archive.gives:
        say(f'unpacking {file.name if fetched else file}')
        unpacked = work / 'unpacked'
        unpack(file, unpacked)
        if archive.nested:
            _unpack_classes(unpacked)
        _move(unpacked, base / archive.into, base / archive.gives.split('|')[0])
        shutil.rmtree(unpacked, ignore_errors=True)
    if fetched:  # only now, since without a hash a transfer that was cut off is known by the unpacking alone
        place = base / archive.name
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)


def _download(archive: Archive, work: Path) -> Path:
    from torchvision.datasets.utils import download_url

    name = PurePosixPath(archive.name).name
    try:
        download_url(archive.url, str(work), name, archive.md5 or None)
    except RuntimeError as error:  # torchvision's word for a wrong hash
        raise OSError(str(error)) from error
    return work / name


def _compare(file: Path, md5: str) -> None:
    from torchvision.datasets.utils import check_md5

    if not check_md5(file, md5):
        raise InputError(f'{file} is not the official file, whose MD5 is {md5}: fetch it again, or unpack it yourself.')


def _unpack_classes(folder: Path) -> None:
    """Unpack each archive in ``folder`` into a folder of its name beside it."""
    for file in sorted(folder.glob('*.tar')):
        unpack(file, file.with_suffix(''))
        file.unlink()


def _move(unpacked: Path, target: Path, last: Path) -> None:
    """Move what was unpacked to where it belongs, ``last`` as the last, by which the whole is known."""
    if target == last:  # the archive has no folder of its own
        if last.exists():
            raise InputError(f'{last} is there, but not complete: remove it, so that it can be unpacked anew.')
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(unpacked, target)
        return
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(unpacked.iterdir(), key=lambda entry: last.is_relative_to(target / entry.name)):
        place = target / entry.name
        if place.is_dir():
            raise InputError(f'{place} is there, but not complete: remove it, so that it can be unpacked anew.')
        os.replace(entry, place)


def unpack(file: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into a new folder, and nothing outside of it.

    Raises:
        InputError: a damaged archive, or one with links or names that lead out of the folder.
    """
    folder.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                _check_members(file, archive)
                archive.extractall(folder)
            return
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter='data')
    except tarfile.FilterError as error:
        raise InputError(
            f'{file} was not unpacked, since {printable(error, 200)}: fetch it from the official page.'
        ) from error
    except _DAMAGE as error:
        reason = printable(' '.join(str(error).split()) or type(error).__name__, 200)
        raise InputError(
            f'{file} cannot be unpacked ({reason}), since it is cut off or damaged: remove it, if it is still there, '
            'and fetch it again.'
        ) from error


def _check_members(file: Path, archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        name = PurePosixPath(entry.filename.replace('\\', '/'))
        link = stat.S_ISLNK(entry.external_attr >> 16)
        if name.is_absolute() or '..' in name.parts or ':' in entry.filename.split('/')[0] or link:
            raise InputError(
                f'{file} was not unpacked, since its entry {printable(entry.filename)} leads out of the folder: fetch '
                'it from the official page.'
            )
