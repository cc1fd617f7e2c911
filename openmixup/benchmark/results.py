"""The results of a table: one CSV file that is only ever appended to."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from openmixup.errors import InputError

__all__ = ['COLUMNS', 'append_row', 'key_of', 'read_rows', 'row_of']

COLUMNS = (
    'table', 'policy', 'seed', 'epochs', 'top1_last', 'top1_median10', 'top1_best', 'top5_last', 'loss_last',
    'ece_last', 'seconds', 'images_per_second', 'parameters', 'peak_memory_mb', 'config_hash', 'commit', 'hardware',
    'versions', 'date',
)  # fmt: skip
_HEADER = ','.join(COLUMNS)


def key_of(row: Mapping[str, str]) -> tuple[str, int, int]:
    """What a row is the result of: policy, epochs, seed."""
    return row['policy'], int(row['epochs']), int(row['seed'])


def row_of(summary: Mapping[str, Any], table: str, policy: str, seed: int, epochs: int) -> dict[str, str]:
    """The row that a run's summary.json becomes; what the summary lacks stays empty.

    Raises:
        KeyError: the summary has no ``last.top1``.
    """
    last, best = summary['last'], summary.get('best') or {}
    values = {
        'table': table,
        'policy': policy,
        'seed': seed,
        'epochs': epochs,
        'top1_last': last['top1'],
        'top1_median10': (summary.get('median_last10') or {}).get('top1'),
        'top1_best': best.get('top1'),
        **{f'{name}_last': last.get(name) for name in ('top5', 'loss', 'ece')},
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ'),
    }
    values |= {name: summary.get(name) for name in COLUMNS if name not in values}
    return {name: _plain(values[name]) for name in COLUMNS}


def _plain(value: Any) -> str:
    """A cell without line breaks, so that a row is one line."""
    if value is None:
        return ''
    if isinstance(value, Mapping):
        return '; '.join(f'{key} {_plain(item)}' for key, item in value.items())
    text = value if isinstance(value, str) else json.dumps(round(value, 6) if isinstance(value, float) else value)
    return ' '.join(text.split())


def _whole_lines(stream: BinaryIO) -> bytes:
    """The content without an incomplete last line, as a killed process may have left it."""
    stream.seek(0)
    data = stream.read()
    return data[: data.rfind(b'\n') + 1]


def _parse(data: bytes, path: Path) -> list[dict[str, str]]:
    text = data.decode('utf-8')
    if not text:
        return []
    if text.splitlines()[0] != _HEADER:
        raise InputError(f'{path} has other columns than {_HEADER}; move it away.')
    return list(csv.DictReader(io.StringIO(text)))


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The complete rows of a file; none if it does not exist.

    Raises:
        InputError: the file has other columns.
    """
    path = Path(path)
    if not path.is_file():
        return []
    with open(path, 'rb') as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        return _parse(_whole_lines(stream), path)


def append_row(path: str | Path, row: Mapping[str, str]) -> bool:
    """Append one row, alone among all processes, and have it on the disk before returning.

    An incomplete last line is cut first, and the header is written where there is none.

    Returns:
        False if the file has a row of the same policy, epochs and seed already; it then stays as it is.

    Raises:
        InputError: the file has other columns.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = io.StringIO()
    csv.DictWriter(line, COLUMNS, lineterminator='\n').writerow(row)
    with open(path, 'a+b') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        data = _whole_lines(stream)
        if key_of(row) in {key_of(known) for known in _parse(data, path)}:
            return False
        stream.truncate(len(data))
        stream.write((b'' if data else _HEADER.encode() + b'\n') + line.getvalue().encode('utf-8'))
        stream.flush()
        os.fsync(stream.fileno())
    return True
