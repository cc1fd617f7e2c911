"""The course of each run beside the results: one line of JSON a run, in a file that is only ever appended to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openmixup.benchmark.results import key_of, same_config
from openmixup.benchmark.runs import Run
from openmixup.benchmark.shared_file import appending, read_shared
from openmixup.errors import InputError

__all__ = ['SERIES', 'append_curve', 'curve_of', 'curves_file', 'curves_for', 'read_curves']

SERIES = {
    'loss': 'loss',
    'agreement': 'agreement',
    'top1': 'val/top1',
    'mae': 'val/mae',
}  # and their names in history.json
_ID = ('policy', 'epochs', 'seed', 'config_hash')  # what a line begins with
POINTS = 100  # of a series, at most: more than a plot can show
DIGITS = 5

Curve = dict[str, Any]


def curves_file(results: str | Path) -> Path:
    """Where the curves of the runs in a file of results are: ``curves/<its name>.jsonl`` beside it."""
    results = Path(results)
    return results.parent / 'curves' / f'{results.stem}.jsonl'


def curve_of(run: Run) -> Curve | None:
    """The curves of a finished run, from its ``history.json``; None if that is missing or is none.

    Returns:
        Policy, epochs, seed and config hash, and of each series that the run has two lists: epochs and values. Of long
        runs every so-manieth epoch is kept, and the last.
    """
    try:
        history = json.loads((run.work_dir / 'history.json').read_text(encoding='utf-8'))
        points = {name: _series(history, key) for name, key in SERIES.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # a curve is an extra: the row counts without it
    curve: Curve = dict(zip(_ID, (run.policy, run.epochs, run.seed, run.config_hash), strict=True))
    found = {name: series for name, series in points.items() if series[0]}
    return curve | found if found else None


def _series(history: Sequence[Mapping[str, Any]], key: str) -> list[list[float]]:
    known = [(int(entry['epoch']), float(entry[key])) for entry in history if entry.get(key) is not None]
    known = [(epoch, value) for epoch, value in known if math.isfinite(value)]
    step = math.ceil(len(known) / POINTS) if known else 1
    kept = known[::-1][::step][::-1]  # from the end, so that the last is kept
    return [[epoch for epoch, _ in kept], [float(f'{value:.{DIGITS}g}') for _, value in kept]]


def append_curve(path: str | Path, curve: Curve | None) -> bool:
    """Append one curve, alone among all processes, and have it on the disk before returning.

    A last line that a killed process left torn is cut first. Other lines are not judged: a curve is an extra, for which
    no run must stop.

    Args:
        path: file of the curves.
        curve: what ``curve_of`` returned; None is nothing to append.

    Returns:
        Whether it was appended; the file stays as it is if it has one of the same policy, epochs, seed and config.

    Raises:
        InputError: the system refuses to write it.
    """
    if curve is None:
        return False
    path = Path(path)
    with appending(path) as stream:
        stream.seek(0)
        data = stream.read()
        whole = data[: data.rfind(b'\n') + 1]
        if any(line.startswith(_line({name: curve[name] for name in _ID})[:-1]) for line in whole.splitlines()):
            return False
        stream.truncate(len(whole))
        stream.write(_line(curve) + b'\n')
        stream.flush()
        os.fsync(stream.fileno())
    return True


def _line(curve: Curve) -> bytes:
    return json.dumps(curve, separators=(',', ':')).encode()


def read_curves(path: str | Path) -> list[Curve]:
    """The curves of a file; none if it does not exist. A torn last line is left out.

    Raises:
        InputError: a whole line is no curve.
    """
    path = Path(path)
    data = read_shared(path)
    return _parse(data[: data.rfind(b'\n') + 1], path)


def _parse(data: bytes, path: Path) -> list[Curve]:
    curves = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            curve = json.loads(line)
            _id(curve)
            for name in SERIES.keys() & curve.keys():
                epochs, values = curve[name]
                if len(epochs) != len(values) or not all(map(math.isfinite, (*epochs, *values))):
                    raise ValueError(f'{name} is no list of epochs and one of values')
            curves.append(curve)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'line {number} of {path} is no curve ({type(error).__name__}: {error}); move the file away or remove '
                'the line.'
            ) from error
    return curves


def _id(curve: Mapping[str, Any]) -> tuple[str, int, int, str]:
    return str(curve['policy']), int(curve['epochs']), int(curve['seed']), str(curve['config_hash'])


def curves_for(rows: Sequence[Mapping[str, str]], curves: Sequence[Curve], runs: Sequence[Run] = ()) -> list[Curve]:
    """The curves that belong to some rows; a row without any has none.

    Args:
        rows: the results.
        curves: those of a file.
        runs: planned runs, whose work folders are looked into for rows that ``curves`` has nothing of.
    """
    by_id = {_id(curve): curve for curve in curves}
    planned = {run.key: run for run in runs}
    found = []
    for row in rows:
        curve = by_id.get((*key_of(row), row['config_hash']))
        run = planned.get(key_of(row))
        if curve is None and run is not None and same_config(row, run.config_hash) and run.summary() is not None:
            curve = curve_of(run)
        found += [curve] if curve is not None else []
    return found
