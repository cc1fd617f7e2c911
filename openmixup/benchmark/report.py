"""The results of tables as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from openmixup.benchmark.ranking import Ranking
from openmixup.benchmark.scores import gain, numbers
from openmixup.benchmark.significance import LEVEL
from openmixup.benchmark.standings import Board, Standing, boards
from openmixup.benchmark.table import Table
from openmixup.evaluation.headline import TOP1, Headline

__all__ = [
    'board_report',
    'distinct',
    'notes',
    'p_value',
    'rank_basis',
    'ranking_markdown',
    'report',
    'spread',
    'tables_allow',
    'to_vanilla',
]

_HEAD = (
    'policy', 'epochs', 'n', 'last epoch', 'median of last 10', 'best (chosen on the test set)', 'RMSE', 'MAPE',
    'to vanilla', 'p',
    'claimed by others', 'to claim', 'time', 'energy', 'FLOPs', 'memory', 'hardware', 'commit',
)  # fmt: skip
_SCORES = {'last epoch': 'last', 'median of last 10': 'median10', 'best (chosen on the test set)': 'best'}
NONE = '–'
NO_RANKS = 'No ranks: two policies or more must have results of the same seeds in all of these tables.'
SCORE_NAMES = {
    'last': 'the last epoch',
    'median10': 'the median of the last ten',
    'best': 'the best epoch',
    'rmse': 'the RMSE',
    'mape': 'the MAPE',
}


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and sample standard deviation, or the one value."""
    if not values:
        return NONE
    sd = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):.{digits}f}{sd}'


def to_vanilla(rows: Sequence[Mapping[str, str]], vanilla: Sequence[Mapping[str, str]], figure: Headline = TOP1) -> str:
    """Mean and standard deviation of the gains in the last epoch over the shared seeds, and how many these are.

    The number is left out where it is that of the rows.
    """
    found = None if rows is vanilla else gain(rows, vanilla, figure)
    if found is None:
        return NONE
    sd = '' if found.sd is None else f' ± {found.sd:.{figure.digits}f}'
    return f'{found.mean:+.{figure.digits}f}{sd}' + (f' (n {found.n})' if found.n != len(rows) else '')


def p_value(p: float | None) -> str:
    """Two digits, or that it is below a thousandth."""
    return NONE if p is None else '< 0.001' if p < 0.001 else f'{p:.3f}' if p < 0.1 else f'{p:.2f}'


def distinct(rows: Sequence[Mapping[str, str]], column: str, length: int | None = None) -> str:
    """The different values of a column, in the order of the rows."""
    return ', '.join(dict.fromkeys(row[column][:length] for row in rows if row[column])) or NONE


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)


def _line(board: Board, standing: Standing, places: list[str]) -> dict[str, str]:
    """The cells of one policy by their heads; where its published figure is from joins ``places``, the footnotes."""
    table, rows, figure = board.table, standing.rows, board.headline
    published = NONE
    if standing.published is not None:
        value, place = standing.published
        if place not in places:
            places.append(place)
        published = f'{value:.{figure.digits}f} [{places.index(place) + 1}]'
    cells = dict.fromkeys(_HEAD, NONE) | {'policy': standing.policy, 'epochs': str(board.epochs), 'n': '0'}
    cells |= {'claimed by others': published, 'FLOPs': _number(standing.flops, '{:.2f}×')}
    if not rows:
        return cells | dict.fromkeys(_SCORES, 'not run')
    cost = standing.costs[0]
    seconds = _number(cost.seconds, '{:.0f} s') + _number(cost.ratio, ', {:.2f}×').removeprefix(NONE)
    seconds += f' (n {cost.n})' if cost.n != len(rows) else ''
    reference = board.reference
    gained = 'reference' if standing is reference else to_vanilla(rows, reference.rows if reference else (), figure)
    return cells | {
        'n': str(len(rows)) + (f' of {len(table.seeds)}' if len(rows) < len(table.seeds) else ''),
        **{head: spread(numbers(rows, figure.column(which)), figure.digits) for head, which in _SCORES.items()},
        'RMSE': spread(numbers(rows, 'rmse_last'), figure.digits),
        'MAPE': spread(numbers(rows, 'mape_last')),
        'to vanilla': gained,
        'p': p_value(standing.gain_p),
        'to claim': _number(standing.to_published, f'{{:+.{figure.digits}f}}'),
        'time': seconds,
        'energy': _number(cost.energy, '{:.4g} Wh') + _number(cost.energy_ratio, ', {:.2f}×').removeprefix(NONE),
        'memory': _number(cost.memory, '{:.0f} MB'),
        'hardware': distinct(rows, 'hardware'),
        'commit': distinct(rows, 'commit', 11),
    }


def notes(board: Board) -> list[str]:
    """What has to be said of the figures of a board, in whole sentences."""
    said = list(board.warnings)
    if board.others:
        said.append(f'{board.others} rows of another config are left out.')
    counts = sorted({standing.gain.n for standing in board.standings if standing.gain is not None})
    if counts:
        said.append(_what_n_allows(counts))
    if any(standing.to_published is not None for standing in board.standings):
        said.append(
            f'"To claim" compares {SCORE_NAMES[board.table.published_score]} here with figures that others claim.'
        )
    return said


def _what_n_allows(counts: Sequence[int]) -> str:
    """How far the statements on gains carry with so many seeds."""
    if counts[-1] < 2:
        return 'Each policy shares one seed with vanilla: no gain here can be told from chance.'
    text = f'p: paired t-test over the shared seeds, corrected by Holm; below {LEVEL} a gain is told from chance.'
    text += f' With {counts[-1]} seeds this leans on the law of the differences, which cannot be checked: '
    text += f'the exact sign-flip test, which needs none, cannot go below {2.0 ** (1 - counts[-1]):.2g}'
    text += ' and so supports no statement.' if 2.0 ** (1 - counts[-1]) >= LEVEL else ' before the correction.'
    return text + (' Policies of one seed have no p.' if counts[0] < 2 else '')


def board_report(found: Sequence[Board]) -> str:
    """Markdown of one table: a line for each policy and number of epochs, by the gain to vanilla.

    Scores as mean ± sample standard deviation over the seeds; the gain is that in the last epoch, paired over
    the seeds.

    Args:
        found: the boards of the table.
    """
    table, trial, figure = found[0].table, found[0].trial, found[0].headline
    named = ', '.join(f'`configs/{board.recipe}`' for board in found)
    seeds = ', '.join(map(str, table.seeds))
    text = [f'### {table.name}', '', f'Recipe{"s" if len(found) > 1 else ""} {named}, seeds {seeds}.']
    if trial:
        text[-1] += f' A trial of {found[0].epochs} epochs, not the recipe.'
    text[-1] += f' {figure.title}, mean ± standard deviation over the seeds.'
    text[-1] += ' `to vanilla` and `to claim` say how much smaller the error is.' if figure.sign < 0 else ''
    places: list[str] = []
    hidden = set() if any(board.tells_energy for board in found) else {'energy'}
    hidden |= set() if figure.sign < 0 else {'RMSE', 'MAPE'}
    heads = [head for head in _HEAD if head not in hidden]
    text += ['', *(f'| {" | ".join(cells)} |' for cells in (heads, ['---'] * len(heads)))]
    lines = [_line(board, standing, places) for board in found for standing in board.standings]
    text += [f'| {" | ".join(line[head] for head in heads)} |' for line in lines]
    said = list(dict.fromkeys(note for board in found for note in notes(board)))
    text += ['', *said] if said else []
    if places:
        text += ['', *(f'[{i}] Claimed by others, not measured here: {p}.  ' for i, p in enumerate(places, start=1))]
    if table.notes:
        text += ['', *(f'- {policy}: {note}' for policy, note in table.notes.items())]
    return '\n'.join(text)


def report(
    table: Table,
    rows: Sequence[Mapping[str, str]],
    configs: str | Path = 'configs',
    epochs: int | None = None,
    flops: Mapping[str, float] | None = None,
) -> str:
    """Markdown of the results of a table.

    Args:
        table: the table.
        rows: its results; those of another config than that of today are only counted.
        configs: folder of the recipes.
        epochs: for the rows of a trial: their length.
        flops: FLOP ratio by the type of a policy.

    Raises:
        InputError: a leaf has not been written.
    """
    return board_report(boards(table, rows, configs, epochs, flops))


def ranking_markdown(ranking: Ranking) -> str:
    """The mean ranks over several tables."""
    seeds = ', '.join(f'{name} ({n})' for name, n in zip(ranking.boards, ranking.seeds, strict=True))
    text = ['### Mean rank', '', f'Over {rank_basis(ranking)}, with the number of shared seeds: {seeds}.']
    if not ranking.ranked:
        return '\n'.join([*text[:2], NO_RANKS])
    text[-1] += ' ' + tables_allow(ranking)
    text += ['', f'| policy | mean rank | {" | ".join(ranking.boards)} |', '| --- ' * (2 + len(ranking.boards)) + '|']
    text += [
        f'| {one.policy} | {one.mean:.2f} | {" | ".join(f"{rank:g}" for rank in one.ranks)} |' for one in ranking.ranked
    ]
    if ranking.missing:
        absent = ', '.join(f'{name} ({count})' for name, count in ranking.missing.items())
        text += ['', f'Not ranked, for they lack some of the tables (number that they have): {absent}.']
    return '\n'.join(text)


def rank_basis(ranking: Ranking) -> str:
    """How many tables the ranks rest on, and how many lengths of training if they have several."""
    tables = f'{ranking.tables} table{"s" if ranking.tables > 1 else ""}'
    lengths = len(ranking.boards)
    return tables if lengths == ranking.tables else f'{lengths} lengths of training in {tables}'


def tables_allow(ranking: Ranking) -> str:
    """Which policies differ over the tables, as far as so many tables can tell."""
    if ranking.least_p is None:
        return 'One table says nothing about others.'
    if not ranking.alike:
        return 'Errors cannot be added up with points or each other: no difference over the tables is tested.'
    if ranking.least_p >= LEVEL:
        return (
            f'With {ranking.tables} tables the exact sign-flip test cannot go below {ranking.least_p:.2g}: '
            'no difference over the tables can be told from chance.'
        )
    names = [one.policy for one in ranking.ranked]
    same = '; '.join(' to '.join((names[first], names[last])) for first, last in ranking.groups)
    return f'Not told apart (exact sign-flip test over the tables, corrected by Holm): {same or "none"}.'
