"""One row of a table trained once more, beside the figures that the table has."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from openmixup.benchmark.results import key_of, same_config
from openmixup.benchmark.runs import Run
from openmixup.errors import InputError, did_you_mean
from openmixup.evaluation.headline import HEADLINES

__all__ = ['compare', 'row_to_reproduce']

_FIGURES = {
    'top1_last': 'top-1 in the last epoch',
    'mae_last': 'MAE in the last epoch',
    'rmse_last': 'RMSE in the last epoch',
    'top1_median10': 'median of the last ten',
    'mae_median10': 'median of the last ten',
    'top5_last': 'top-5 in the last epoch',
    'loss_last': 'loss in the last epoch',
}
_ENVIRONMENT = ('hardware', 'versions', 'commit')


def row_to_reproduce(
    name: str, runs: Sequence[Run], rows: Sequence[Mapping[str, str]]
) -> tuple[Run, Mapping[str, str]]:
    """The run and the row that ``name`` means.

    Args:
        name: a row as ``cutmix-100e-seed0``, or a policy, of which the first row is taken.
        runs: the runs of the table.
        rows: its results.

    Raises:
        InputError: the table has no such row, it has not been run, or it is of another config than today's.
    """
    chosen = [run for run in runs if name in (run.row, run.policy)]
    if not chosen:
        known = [*dict.fromkeys(run.policy for run in runs), *(run.row for run in runs)]
        raise InputError(f'the table plans no row {name!r}{did_you_mean(name, known)}; give a policy or {runs[0].row}.')
    there = {key_of(row) for row in rows}
    with_row = [run for run in chosen if run.key in there]
    if not with_row:
        raise InputError(f'{chosen[0].row} has no row yet; tools/benchmark.py run {chosen[0].table} trains it.')
    run = with_row[0]
    candidates = [row for row in rows if key_of(row) == run.key]
    same = [row for row in candidates if same_config(row, run.config_hash)]
    if not same:
        raise InputError(
            f'the row {run.row} is of config {candidates[-1]["config_hash"]}, and the config of today is '
            f'{run.config_hash}: check out {candidates[-1]["commit"] or "the commit of the row"} to reproduce it.'
        )
    return run, same[-1]


def compare(
    before: Mapping[str, str], now: Mapping[str, str], others: Sequence[Mapping[str, str]]
) -> tuple[str, float]:
    """The two rows side by side, and the difference of top-1 (in points) or MAE in the last epoch.

    Args:
        before: the row of the table.
        now: that of the new run.
        others: the rows of all seeds of the policy, for the spread that is to be expected.
    """
    lines = []
    for column, what in _FIGURES.items():
        if before[column] and now[column]:
            old, new = float(before[column]), float(now[column])
            same = 'the same' if old == new else f'{new - old:+.4g}'
            lines.append(f'{what}: {old:g} in the table, {new:g} now ({same})')
    figure = next((known for known in HEADLINES if before[known.column('last')] and now[known.column('last')]), None)
    if figure is None:
        raise InputError(
            'the row and the new run have no headline figure in common: the recipe has another metric now.'
        )
    column = figure.column('last')
    difference = float(now[column]) - float(before[column])
    tops = [float(row[column]) for row in others if row[column]]
    if difference and len(tops) > 1:
        spread = f'{statistics.stdev(tops):.{figure.digits}f} {figure.step}'
        lines.append(f'for scale: the standard deviation over {len(tops)} seeds is {spread}')
    for column in _ENVIRONMENT:
        if before[column] != now[column]:
            lines.append(f'{column}: {before[column] or "unknown"} then, {now[column] or "unknown"} now')
    return '\n'.join(lines), difference
