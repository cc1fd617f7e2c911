"""The results of a table: one CSV file that is only ever appended to."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from openmixup.benchmark.shared_file import appending, read_shared
from openmixup.errors import InputError
from openmixup.evaluation.headline import HEADLINES, TOP1, measured

__all__ = ['COLUMNS', 'SETTINGS_VERSION', 'append_row', 'key_of', 'read_rows', 'row_of', 'same_config']

COLUMNS = (
    'table', 'policy', 'seed', 'epochs', 'top1_last', 'top1_median10', 'top1_best', 'top5_last', 'loss_last',
    'ece_last', 'mae_last', 'mae_median10', 'mae_best', 'rmse_last', 'mape_last', 'seconds', 'energy_wh',
    'images_per_second', 'parameters', 'peak_memory_mb', 'config_hash', 'commit', 'hardware',
    'versions', 'settings_version', 'date',
)  # fmt: skip
SETTINGS_VERSION = 2  # how config_hash is computed: hashes of different versions cannot be compared
_KEY = ('policy', 'epochs', 'seed')
_TEXTS = ('table', 'policy', 'config_hash', 'commit', 'hardware', 'versions', 'settings_version', 'date')
_CONFLICT = (b'<<<<<<< ', b'||||||| ', b'=======', b'>>>>>>> ')  # lines of git between two versions of a file


def key_of(row: Mapping[str, str]) -> tuple[str, int, int]:
    """What a row is the result of: policy, epochs, seed."""
    return row['policy'], int(row['epochs']), int(row['seed'])


def same_config(row: Mapping[str, str], config_hash: str) -> bool:
    """Whether a row is, as far as it tells, of the config with this hash.

    A row without a hash, or whose hash was computed in another way, cannot be told apart and counts as the same.
    """
    comparable = row['settings_version'] == str(SETTINGS_VERSION) and row['config_hash']
    return not comparable or row['config_hash'] == config_hash


def row_of(summary: Mapping[str, Any], table: str, policy: str, seed: int, epochs: int) -> dict[str, str]:
    """The row that a run's summary.json becomes; what the summary lacks stays empty.

    Raises:
        KeyError: the summary has neither ``last.top1`` nor ``last.mae``.
    """
    last, best, median = summary['last'], summary.get('best') or {}, summary.get('median_last10') or {}
    if measured(last) is None:
        raise KeyError(TOP1.name)
    values = {
        'table': table,
        'policy': policy,
        'seed': seed,
        'epochs': epochs,
        **{f'{figure.name}_median10': median.get(figure.name) for figure in HEADLINES},
        **{f'{figure.name}_best': best.get(figure.name) for figure in HEADLINES},
        **{f'{name}_last': last.get(name) for name in ('top1', 'top5', 'loss', 'ece', 'mae', 'rmse', 'mape')},
        'settings_version': SETTINGS_VERSION,
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
    if isinstance(value, float) and not math.isfinite(value):
        return ''  # no figure
    text = value if isinstance(value, str) else json.dumps(round(value, 6) if isinstance(value, float) else value)
    return ' '.join(text.split())


def _cells(line: bytes) -> list[str]:
    """The cells of one line; none if it is torn inside a cell."""
    try:
        return next(csv.reader([line.decode('utf-8')], strict=True), [])
    except (csv.Error, UnicodeDecodeError):
        return []


def _is_row(cells: Sequence[str], header: Sequence[str]) -> bool:
    row = dict(zip(header, cells, strict=False))
    return len(cells) == len(header) and all(row.get(name, '').isdecimal() for name in ('epochs', 'seed'))


def _whole_lines(data: bytes) -> bytes:
    """The content without an incomplete last line, as a killed process may have left it.

    A last line that has all its columns is complete, and gets the newline that it may lack.
    """
    whole, newline, last = data.rpartition(b'\n')
    whole += newline
    if last and whole and _is_row(_cells(last), _cells(whole.partition(b'\n')[0])):
        return data + b'\n'
    return whole


def _parse(data: bytes, path: Path) -> list[dict[str, str]]:
    """The rows; columns that an older file lacks are empty."""
    if not data:
        return []
    lines = data.split(b'\n')
    for number, line in enumerate(lines, start=1):
        if line.startswith(_CONFLICT):
            raise InputError(
                f'line {number} of {path} is one of a merge of git that is still to be solved; rows of both sides can '
                'stay, without the lines of git between them.'
            )
    header = _cells(lines[0])
    if not set(_KEY) <= set(header) <= set(COLUMNS):
        raise InputError(f'{path} has other columns than {",".join(COLUMNS)}; move it away.')
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            row = _row(line, header)
        except (ValueError, csv.Error) as error:
            raise InputError(f'line {number} of {path} is no row ({error}); repair or remove it.') from error
        rows.append({name: row.get(name, '') for name in COLUMNS})
    return rows


def _row(line: bytes, header: Sequence[str]) -> dict[str, str]:
    """The cells of one line by their columns.

    Raises:
        ValueError, csv.Error: it is no row, for the reason told.
    """
    cells = next(csv.reader([line.decode('utf-8')], strict=True))
    if len(cells) != len(header):
        raise ValueError(f'it has {len(cells)} cells, and the header {len(header)}')
    row = dict(zip(header, cells, strict=True))
    for name in ('epochs', 'seed'):
        if not row[name].isdecimal():
            raise ValueError(f'{name} is {row[name]!r}, expected a whole number')
    for name, cell in row.items():
        if cell and name not in _TEXTS and not _finite(cell):
            raise ValueError(f'{name} is {cell!r}, expected a finite number or nothing')
    return row


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _lines(rows: Sequence[Mapping[str, str]], header: bool) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode('utf-8')


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The complete rows of a file; none if it does not exist. Columns that an older file lacks are empty.

    Raises:
        InputError: the file cannot be read, has other columns, or a line of it is no row.
    """
    path = Path(path)
    return _parse(_whole_lines(read_shared(path)), path)


def append_row(path: str | Path, row: Mapping[str, str]) -> bool:
    """Append one row, alone among all processes, and have it on the disk before returning.

    An incomplete last line is cut first, and the header is written where there is none. A file with the columns of an
    earlier version is written anew with all columns, and takes the place of the old one in one step.

    Returns:
        False if the file has a row of the same policy, epochs, seed and config already; it then stays as it is.

    Raises:
        InputError: the file has other columns or a damaged line, or the system refuses to write it.
    """
    path = Path(path)
    with appending(path) as stream:
        stream.seek(0)
        data = _whole_lines(stream.read())
        rows = _parse(data, path)
        if any(key_of(known) == key_of(row) and same_config(known, row['config_hash']) for known in rows):
            return False
        if data and _cells(data.partition(b'\n')[0]) != list(COLUMNS):
            _replace(path, _lines([*rows, row], header=True))
            return True
        size = os.fstat(stream.fileno()).st_size
        added = _lines([row], header=not data)
        if len(data) > size:  # the newline that the last row lacks
            added = data[size:] + added
        stream.truncate(min(len(data), size))
        stream.write(added)
        stream.flush()
        os.fsync(stream.fileno())
    return True


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix('.tmp')
    try:
        with open(temporary, 'wb') as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
