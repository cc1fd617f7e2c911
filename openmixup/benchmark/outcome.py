"""What a run leaves when it has ended: a row, or a failure with the end of its log."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from openmixup.benchmark.curves import append_curve, curve_of, curves_file
from openmixup.benchmark.results import append_row, row_of
from openmixup.benchmark.runs import Run
from openmixup.benchmark.shared_file import check_appending
from openmixup.errors import InputError

__all__ = ['check_results', 'keep_failure', 'keep_row', 'lock_log', 'trained_elsewhere']

_KEPT = 2**16  # bytes of the log in the file of a failure


def check_results(results: str | Path) -> None:
    """Find out, before anything is trained, whether rows and curves can be appended.

    Raises:
        InputError: the system refuses it.
    """
    for path in (Path(results), curves_file(results)):
        check_appending(path)


def keep_row(run: Run, results: str | Path) -> dict[str, Any]:
    """Append the curve and the row of a finished run, once, and forget its earlier failure; its summary is returned.

    Raises:
        InputError: the row could not be appended: the file is damaged, or the system refuses to write it.
        ValueError: the run has no summary.
    """
    summary = run.summary()
    if summary is None:
        raise ValueError(f'{run.name} has not finished.')
    append_curve(curves_file(results), curve_of(run))  # first: a run that has its row is never collected again
    append_row(results, row_of(summary, run.table, run.policy, run.seed, run.epochs))
    with suppress(OSError):  # once the row is there nobody asks for the failure
        run.failure.unlink(missing_ok=True)
    return summary


def keep_failure(run: Run, reason: str, begin: int = 0) -> None:
    """Write the reason and the end of the log to the file of the failure, which stands apart from those that run well.

    Args:
        run: the run.
        reason: what happened.
        begin: position in the log where this attempt begins.
    """
    text = b''
    if run.log.is_file():
        with open(run.log, 'rb') as stream:
            size = stream.seek(0, 2)
            stream.seek(max(min(begin, size), size - _KEPT))
            text = stream.read()
    run.failure.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
    run.failure.write_bytes(f'{reason} ({now}; the whole log is {run.log})\n\n'.encode() + text)


def lock_log(run: Run) -> BinaryIO | None:
    """The log, opened for appending and locked; None while another process trains the run."""
    run.log.parent.mkdir(parents=True, exist_ok=True)
    log = open(run.log, 'ab')  # noqa: SIM115 (closed by the caller)
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.close()
        return None
    except OSError as error:
        log.close()
        raise InputError(
            f'{run.log} cannot be locked ({error.strerror}): choose a --work-dir on a file system that has locks.'
        ) from error
    return log


def trained_elsewhere(run: Run) -> bool:
    """Whether some process holds the lock of the log."""
    try:
        stream = open(run.log, 'rb')  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        return False
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
