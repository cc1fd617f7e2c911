"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

__all__ = ['Digest', 'digest_of', 'remove_leftovers', 'write_atomically']

SUFFIX = '.tmp'


class Digest(NamedTuple):
    """Length in bytes and SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class _Hashed:
    """A binary stream for writing that keeps the digest of what passed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._hash, self._size = stream, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Pass ``data`` on."""
        self._hash.update(data)
        count = self._stream.write(data)
        self._size += count
        return count

    def flush(self) -> None:
        """Pass it on."""
        self._stream.flush()

    @property
    def digest(self) -> Digest:
        """Of all that was written."""
        return Digest(self._size, self._hash.hexdigest())


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], object]) -> Digest:
    """Write a temporary file beside ``path``, flush it to the disk, rename it, and flush the folder.

    A crash at any moment leaves the old file or the new one, never a part; an error leaves the old one and no
    temporary file.

    Args:
        path: the target.
        write: writes the content to a stream that has ``write`` and ``flush``, from its beginning to its end.

    Returns:
        The digest of the content.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}{SUFFIX}')
    try:
        with temporary.open('wb') as stream:
            hashed = _Hashed(stream)
            write(hashed)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return hashed.digest


def digest_of(path: str | Path) -> Digest:
    """Of the content of a file as the disk has it."""
    with open(path, 'rb') as stream:
        sha256 = hashlib.file_digest(stream, 'sha256') if hasattr(hashlib, 'file_digest') else _hash(stream)
        return Digest(os.fstat(stream.fileno()).st_size, sha256.hexdigest())


def _hash(stream: IO[bytes]) -> Any:
    """For Python 3.10."""
    found = hashlib.sha256()
    while block := stream.read(1 << 20):
        found.update(block)
    return found


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a process that was killed left in ``folder``."""
    for path in folder.glob(f'.*.*{SUFFIX}'):
        path.unlink(missing_ok=True)
