"""Unreadable images: how many were met, and where that is written down."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from openmixup.checks import is_whole
from openmixup.errors import InputError

__all__ = ['REPORT', 'BadImages']

REPORT = 'bad_images.jsonl'


class BadImages:
    """The unreadable images of a data set, each counted once however often and by whomever it is met.

    With a ``report`` all processes that write to it count together: the loader's workers, the ranks, other data sets of
    the run, and the parts of one that was continued. Each bad image is one line there, a JSON object with ``path`` and
    ``error``. Without one each process counts by itself.

    Args:
        budget: images that may be bad: a whole number, or a share of ``total`` below 1.
        total: number of images.

    Attributes:
        report: the file; None: there is none. A run sets it to ``bad_images.jsonl`` in its work dir.

    Raises:
        InputError: ``budget`` is neither.
    """

    def __init__(self, budget: float, total: int) -> None:
        share = isinstance(budget, float) and 0 <= budget < 1
        if not share and not is_whole(budget, 0):
            raise InputError(
                f'bad_image_budget={budget!r}: expected a whole number of images of at least 0, or a share below 1.'
            )
        self.given, self.budget = budget, int(budget * total) if share else int(budget)
        self.report: Path | None = None
        self._known: set[str] = set()

    def add(self, path: Path, error: Exception) -> None:
        """Count ``path``, which could not be read; one that this process has met already costs nothing.

        Raises:
            InputError: there are more than the budget allows, or the report cannot be written.
        """
        name = str(path)
        if name in self._known:
            return
        self._known.add(name)
        count = len(self._known) if self.report is None else self._written(self.report, name, str(error))
        if count > self.budget:
            share = '' if self.given == self.budget else f', which is {self.budget} here'
            remedy = 'repair them' if self.report is None else f'repair those in {self.report} and remove that list'
            last = str(error).rstrip('.')
            raise InputError(
                f'more than bad_image_budget={self.given} bad images{share}, the last: {last}; {remedy}, or allow more.'
            ) from error
        warnings.warn(f'skipped: {error}', RuntimeWarning, stacklevel=2)

    def _written(self, report: Path, name: str, error: str) -> int:
        """Number of images in the report, with this one in it."""
        try:
            with report.open('a+b') as stream, _locked(stream):
                stream.seek(0)
                content = stream.read()
                self._known |= _names(content)
                if name not in _names(content):
                    begin = '' if content.endswith(b'\n') or not content else '\n'  # behind a line that was cut off
                    stream.write((begin + json.dumps({'path': name, 'error': error}) + '\n').encode())
                return len(self._known)
        except OSError as failure:
            raise InputError(
                f'{report} cannot be written ({failure.strerror}), where bad images are listed: make room, choose '
                'another --work-dir or repair the images.'
            ) from failure


def _names(content: bytes) -> set[str]:
    """Paths of the whole lines of a report."""
    found = set()
    for line in content.splitlines():
        try:
            found.add(json.loads(line)['path'])
        except ValueError:  # a crash cut it off
            continue
    return found


@contextmanager
def _locked(stream: IO[bytes]) -> Iterator[None]:
    """Hold the file, where the system can, so that of several processes only one reads and adds at a time."""
    held = False
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX)
        held = True
    except (ImportError, OSError):  # a line that is added at the end is whole even so
        pass
    try:
        yield
        stream.flush()
        os.fsync(stream.fileno())
    finally:
        if held:
            fcntl.flock(stream, fcntl.LOCK_UN)
