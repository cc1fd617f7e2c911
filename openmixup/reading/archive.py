"""The zip archives that torch writes, and those that only look like them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from openmixup.errors import printable

__all__ = ['Foreign', 'Refused', 'check_archive', 'is_archive']


class Refused(ValueError):
    """A file holds more than tensors and plain data, or would unpack to far more than its size."""


class Foreign(Refused):
    """It asks for objects of other programs, which ``read_foreign`` leaves out."""


def is_archive(path: Path) -> bool:
    """Whether torch would read ``path`` as a zip archive, as it does with all that is written since torch 1.6."""
    with path.open('rb') as stream:
        return stream.read(4) == b'PK\x03\x04'


def check_archive(path: Path) -> None:
    """Refuse an archive that torch has not written: compressed or overlapping entries, or names that leave a folder.

    torch stores entries as they are, so that together they are never larger than the file.

    Raises:
        Refused: such an entry.
        zipfile.BadZipFile: no archive.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    for entry in entries:
        name = printable(entry.filename)
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise Refused(f'its entry {name} is compressed, to grow to {entry.file_size} bytes')
        if entry.filename.startswith(('/', '\\')) or '..' in re.split(r'[/\\]', entry.filename):
            raise Refused(f'its entry {name} names a place outside of the archive')
    if len(set(names)) < len(names):
        raise Refused('two of its entries have the same name')
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise Refused('its entries overlap, to grow beyond the size of the file')
