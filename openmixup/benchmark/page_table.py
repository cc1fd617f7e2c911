"""The table of one board in HTML; it can be read, and printed, without scripts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from openmixup.benchmark.report import NONE, distinct, p_value
from openmixup.benchmark.scores import mean_of, numbers
from openmixup.benchmark.standings import Board, Standing

__all__ = ['hardware_key', 'leaderboard']


class _Cell(NamedTuple):
    """What a cell shows, and the number that it is sorted by."""

    html: str
    value: float | str | None = None
    kind: str = 'num'


class _Column(NamedTuple):
    group: str
    title: str
    explained: str
    ascending: bool = False  # the first click: small ones first


_COLUMNS = {
    'policy': _Column('', 'policy', 'Name in the table', True),
    'last': _Column('Score', 'last epoch', 'Mean ± standard deviation over the seeds'),
    'median': _Column('Score', 'median of 10', 'Median of the last ten epochs'),
    'best': _Column('Score', 'best ⚠', 'Best epoch, chosen on the test set: no honest estimate'),
    'gain': _Column('Against vanilla', 'gain', 'Difference in the last epoch, paired over the shared seeds'),
    'p': _Column('Against vanilla', 'p', 'Paired t-test, corrected by Holm over the policies', True),
    'claim': _Column('Claims of others', 'claimed', 'Published by others, not measured here'),
    'to_claim': _Column('Claims of others', 'ours − claim', 'Our mean minus the claim'),
    'seconds': _Column('Cost', 'seconds', 'Training time, mean over the seeds', True),
    'ratio': _Column('Cost', '× vanilla', 'Seconds relative to vanilla on the same hardware', True),
    'energy': _Column('Cost', 'Wh', 'Energy of the GPUs in training, mean over the seeds', True),
    'energy_ratio': _Column('Cost', '× vanilla', 'Energy relative to vanilla on the same hardware', True),
    'flops': _Column('Cost', 'FLOPs ×', 'Operations of a step with the policy’s defaults, relative to vanilla', True),
    'memory': _Column('Cost', 'MB', 'Peak memory', True),
    'rmse': _Column('Other errors', 'RMSE', 'Root of the mean squared error in the last epoch', True),
    'mape': _Column('Other errors', 'MAPE', 'Mean absolute percentage error in the last epoch', True),
    'ece': _Column('Calibration', 'ECE', 'Expected calibration error in the last epoch, in percent', True),
    'n': _Column('Rests on', 'n', 'Number of seeds'),
    'hardware': _Column('Rests on', 'hw', 'Hardware, by the letters below the table', True),
    'commit': _Column('Rests on', 'commit', 'Commit of the code', True),
}
_OF_ERRORS = {  # as above 0 is better, the differences are the other way round
    'gain': _Column(
        'Against vanilla', 'gain', 'How much smaller the error is in the last epoch, paired over shared seeds'
    ),
    'to_claim': _Column('Claims of others', 'claim − ours', 'The claim minus our mean'),
}


def hardware_key(place: int) -> str:
    """The letter of a kind of hardware: A to Z, then A2 and so on."""
    return chr(ord('A') + place % 26) + (str(place // 26 + 1) if place >= 26 else '')


def leaderboard(board: Board, hardware: Sequence[str]) -> str:
    """The table, its footnotes and what was not run.

    Args:
        board: the board.
        hardware: all names of hardware on the page, by which the letters go.
    """
    hidden = set() if any(standing.published for standing in board.standings) else {'claim', 'to_claim'}
    hidden |= set() if board.tells_energy else {'energy', 'energy_ratio'}
    error = board.headline.sign < 0
    hidden |= {'ece'} if error else {'rmse', 'mape'}
    columns = {
        name: column._replace(group=board.headline.title, ascending=error) if column.group == 'Score' else column
        for name, column in {**_COLUMNS, **(_OF_ERRORS if error else {})}.items()
        if name not in hidden
    }
    shown = [standing for standing in board.standings if standing.rows or standing.published]
    absent = [standing.policy for standing in board.standings if not standing.rows and not standing.published]
    places: list[str] = []
    largest = max((abs(s.gain.mean) for s in shown if s.gain is not None), default=1.0) or 1.0
    body = ''.join(_row(board, standing, columns, hardware, places, largest) for standing in shown)
    used = [name for name in hardware if any(row['hardware'] == name for s in shown for row in s.rows)]
    below = [f'<b>{hardware_key(hardware.index(name))}</b> {escape(name or "not said")}' for name in used]
    notes = [f'<p class="key">Hardware: {", ".join(below)}.</p>'] if below else []
    notes += [
        f'<p class="key claim"><sup>{k}</sup> Claim of others, not measured here: {escape(place)}.</p>'
        for k, place in enumerate(places, start=1)
    ]
    notes += [f'<p class="key">Not run: {escape(", ".join(absent))}.</p>'] if absent else []
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Results of {escape(board.name)}">'
        f'<table class="leaderboard"><caption>Results of {escape(board.name)}</caption>'
        f'{_head(columns)}<tbody>{body}</tbody></table></div>'
    )
    return table + ''.join(notes)


def _head(columns: Mapping[str, _Column]) -> str:
    groups = list(dict.fromkeys(column.group for column in columns.values()))
    counts = {group: sum(column.group == group for column in columns.values()) for group in groups}
    over = ''.join(
        f'<th colspan="{counts[group]}" scope="colgroup">{group}</th>' if group else '<td></td>' for group in groups
    )
    starts = {next(name for name, column in columns.items() if column.group == group) for group in groups if group}
    cells = ''.join(
        f'<th scope="col" class="{name}{" start" if name in starts else ""}" aria-sort="none"'
        f' data-first="{"ascending" if column.ascending else "descending"}">'
        f'<button type="button" title="{escape(column.explained)}">{escape(column.title)}</button></th>'
        for name, column in columns.items()
    )
    return f'<thead><tr class="groups">{over}</tr><tr>{cells}</tr></thead>'


def _row(
    board: Board,
    standing: Standing,
    columns: Mapping[str, _Column],
    hardware: Sequence[str],
    places: list[str],
    largest: float,
) -> str:
    cells = _score_cells(board, standing, places, largest) | _cost_cells(standing, hardware)
    kind = 'reference' if standing is board.reference else '' if standing.rows else 'absent'
    html = ''
    previous = ''
    for name, column in columns.items():
        cell = cells[name]
        tag = 'th scope="row"' if name == 'policy' else 'td'
        start = ' start' if column.group != previous and column.group else ''
        value = '' if cell.value is None else f' data-value="{escape(str(cell.value))}"'
        html += f'<{tag} class="{cell.kind} {name}{start}"{value}>{cell.html}</{tag[:2]}>'
        previous = column.group
    return f'<tr class="{kind}">{html}</tr>'


def _score_cells(board: Board, standing: Standing, places: list[str], largest: float) -> dict[str, _Cell]:
    rows, found = standing.rows, standing.gain
    cells, digits = {'policy': _Cell(escape(standing.policy), standing.policy, 'text')}, board.headline.digits
    for name, score in {'last': 'last', 'median': 'median10', 'best': 'best'}.items():
        cells[name] = _spread(numbers(rows, board.headline.column(score)), digits) if rows else _Cell('<i>not run</i>')
    if standing is board.reference:
        cells['gain'] = _Cell('<i>reference</i>', 0.0)
    elif found is None:
        cells['gain'] = _Cell(NONE)
    else:
        width = 50 * abs(found.mean) / largest
        side = 'left:50%' if found.mean >= 0 else f'left:{50 - width:.1f}%'
        verdict = standing.verdict if standing.verdict in ('better', 'worse') else 'open'
        bar = f'<span class="bar {verdict}"><span style="{side};width:{width:.1f}%"></span></span>'
        few = f' <small title="shared seeds">n&thinsp;{found.n}</small>' if found.n != len(rows) else ''
        cells['gain'] = _Cell(
            f'{bar}<b class="m">{_signed(found.mean, digits)}</b>{_sd(found.sd, digits)}{few}', found.mean
        )
    cells['p'] = _Cell(escape(p_value(standing.gain_p)), standing.gain_p)
    cells['claim'] = cells['to_claim'] = _Cell(NONE)
    if standing.published is not None:
        value, place = standing.published
        if place not in places:
            places.append(place)
        cells['claim'] = _Cell(f'<i>{value:.{digits}f}</i><sup>{places.index(place) + 1}</sup>', value)
    if standing.to_published is not None:
        cells['to_claim'] = _Cell(_signed(standing.to_published, digits), standing.to_published)
    return cells


def _cost_cells(standing: Standing, hardware: Sequence[str]) -> dict[str, _Cell]:
    rows = standing.rows
    cost = standing.costs[0] if standing.costs else None
    kinds = [hardware_key(hardware.index(other.hardware)) for other in standing.costs]
    few = f' <small title="runs on this hardware">n&thinsp;{cost.n}</small>' if cost and cost.n != len(rows) else ''
    seconds = _plain(cost.seconds if cost else None, 0)
    return {
        'seconds': seconds._replace(html=seconds.html + few),
        'ratio': _plain(cost.ratio if cost else None, 2),
        'energy': _Cell(f'{cost.energy:.4g}', cost.energy) if cost and cost.energy is not None else _plain(None, 0),
        'energy_ratio': _plain(cost.energy_ratio if cost else None, 2),
        'flops': _plain(standing.flops, 2),
        'memory': _plain(cost.memory if cost else None, 0),
        'rmse': _plain(mean_of(rows, 'rmse_last'), 4),
        'mape': _plain(mean_of(rows, 'mape_last'), 2),
        'ece': _plain(mean_of(rows, 'ece_last'), 2),
        'n': _plain(len(rows), 0),
        'hardware': _Cell(', '.join(kinds) or NONE, ', '.join(kinds) or None, 'text'),
        'commit': _Cell(f'<code>{escape(distinct(rows, "commit", 7))}</code>', distinct(rows, 'commit', 7), 'text'),
    }


def _plain(value: float | None, digits: int) -> _Cell:
    return _Cell(NONE) if value is None else _Cell(f'{value:,.{digits}f}'.replace(',', '\u2009'), round(value, 6))


def _spread(values: Sequence[float], digits: int) -> _Cell:
    if not values:
        return _Cell(NONE)
    mean = statistics.fmean(values)
    return _Cell(
        f'<b class="m">{mean:.{digits}f}</b>{_sd(statistics.stdev(values) if len(values) > 1 else None, digits)}', mean
    )


def _sd(value: float | None, digits: int) -> str:
    """In a box of fixed width, so that means stay under each other."""
    return f'<span class="sd">{"" if value is None else f"±{value:.{digits}f}"}</span>'


def _signed(value: float, digits: int) -> str:
    return f'{value:+.{digits}f}'.replace('-', '−')
