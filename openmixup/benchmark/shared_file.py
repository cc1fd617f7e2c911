"""Files that several processes append to, each alone while it does."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from openmixup.errors import InputError

__all__ = ['appending', 'check_appending', 'read_shared']


def read_shared(path: Path) -> bytes:
    """The content, when nobody appends; nothing if there is no such file.

    Raises:
        InputError: the system refuses it.
    """
    if not path.is_file():
        return b''
    try:
        with open(path, 'rb') as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            return stream.read()
    except FileNotFoundError:  # another process has just found out that it can be made, see check_appending
        return b''
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror}); make it readable or move it away.') from error


@contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """The file, opened to append and to read, and locked; it and its folder are made if they are not there.

    Raises:
        InputError: the system refused this, or what was written inside.
    """
    from openmixup.engine.disk import saving  # with the whole engine: nothing that only reads has to wait for it

    with saving(path, remedy='make room, or choose another folder with --results (for a trial with --work-dir)'):
        if not path.parent.exists():  # a file there is told by open, as what it is
            path.parent.mkdir(parents=True, exist_ok=True)
        with _open_locked(path) as stream:
            yield stream


def check_appending(path: Path) -> None:
    """Find out whether a file can be appended to; it is left as it is, and none is left where none was.

    Raises:
        InputError: the system refuses it.
    """
    made = not os.path.lexists(path)
    with appending(path) as stream:
        if made and os.fstat(stream.fileno()).st_size == 0:
            path.unlink()


def _open_locked(path: Path) -> BinaryIO:
    """The file, locked; opened again if another process has meanwhile removed it or put a new one in its place."""
    while True:
        stream = open(path, 'a+b')  # noqa: SIM115 (closed by the caller)
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):  # a device may be read without end
            stream.close()
            raise OSError(errno.EINVAL, 'Not a regular file')
        fcntl.flock(stream, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()
