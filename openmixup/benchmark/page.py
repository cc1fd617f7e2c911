"""The results of tables as one HTML page that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from openmixup.benchmark.curves import Curve
from openmixup.benchmark.page_data import board_data, ranking_data
from openmixup.benchmark.page_table import hardware_key, leaderboard
from openmixup.benchmark.ranking import Ranking, rank_over
from openmixup.benchmark.report import NO_RANKS, notes, rank_basis, tables_allow
from openmixup.benchmark.standings import Board

__all__ = ['page']

_SCRIPTS = ('base.js', 'table.js', 'scatter.js', 'forest.js', 'curves.js', 'radar.js', 'start.js')


def page(boards: Sequence[Board], curves: Sequence[Sequence[Curve]]) -> str:
    """A page with the tables, and their plots, which scripts of its own draw from data inside it.

    Args:
        boards: the tables; with two or more, mean ranks and a radar plot come first.
        curves: those of the rows of each board.
    """
    hardware = list(
        dict.fromkeys(row['hardware'] for board in boards for standing in board.standings for row in standing.rows)
    )
    several = len(boards) > 1
    ranking = rank_over(boards) if several else None
    data = {
        'hardware': [hardware_key(k) for k in range(len(hardware))],
        'boards': [board_data(board, own, hardware) for board, own in zip(boards, curves, strict=True)],
        'ranking': ranking_data(ranking, boards) if ranking else None,
    }
    title = boards[0].name if not several else f'{len(boards)} tables'
    sections = ([_overview(ranking)] if ranking else []) + [
        _section(board, place, hardware, bool(own))
        for place, (board, own) in enumerate(zip(boards, curves, strict=True))
    ]
    links = [('overview', 'Over the tables')] * several + [(_anchor(k), board.name) for k, board in enumerate(boards)]
    return Template(_asset('page.html')).substitute(
        title=escape(title),
        style=_asset('page.css'),
        links=''.join(f'<a href="#{where}">{escape(name)}</a>' for where, name in links) if several else '',
        sections='\n'.join(sections),
        data=json.dumps(data, separators=(',', ':'), allow_nan=False).replace('<', '\\u003c'),
        script='\n'.join(_asset(name) for name in _SCRIPTS),
    )


def _asset(name: str) -> str:
    return files('openmixup.benchmark').joinpath('assets').joinpath(name).read_text(encoding='utf-8')


def _anchor(place: int) -> str:
    return f'table-{place}'


def _figure(kind: str, place: int | str, title: str, caption: str) -> str:
    return (
        f'<figure class="plot {kind}" data-plot="{kind}" data-board="{place}"><h3>{title}</h3>'
        f'<div class="canvas"></div><figcaption>{caption}</figcaption></figure>'
    )


def _overview(ranking: Ranking) -> str:
    """Mean ranks and the radar plot."""
    seeds = ', '.join(f'{escape(name)} ({n})' for name, n in zip(ranking.boards, ranking.seeds, strict=True))
    if ranking.ranked:
        rest = f'Mean rank over {rank_basis(ranking)} (shared seeds): {seeds}. {escape(tables_allow(ranking))}'
        ranks = _figure('ranks', 'all', 'Mean rank', f'Faint marks are the ranks in single tables. {rest}')
    else:
        ranks = f'<p class="note">{NO_RANKS}</p>'
    radar = _figure(
        'radar',
        'all',
        'Scores by table',
        'Mean score of the last epoch. Each axis goes from the worst to the best mean of these policies, so '
        'lengths on different axes cannot be compared. A policy that lacks a table has a gap there.',
    )
    return f'<section id="overview"><h2>Over the tables</h2><div class="pair">{radar}{ranks}</div></section>'


def _section(board: Board, place: int, hardware: Sequence[str], has_curves: bool) -> str:
    """Everything about one table."""
    seeds = ', '.join(map(str, board.table.seeds))
    about = f'<code>configs/{escape(board.recipe)}</code> · {board.epochs} epochs · seeds {escape(seeds)}'
    about += ' · a trial, not the recipe' if board.trial else ''
    if not any(standing.rows for standing in board.standings):
        plots = '<p class="note">Not run: there is no result yet.</p>'
    else:
        plots = _plots(board, place, has_curves)
    said = ''.join(f'<p class="note">{_emphasised(note)}</p>' for note in notes(board))
    said += ''.join(
        f'<p class="note"><b>{escape(policy)}</b>: {_emphasised(note)}</p>'
        for policy, note in board.table.notes.items()
    )
    return (
        f'<section id="{_anchor(place)}"><h2>{escape(board.name)}</h2><p class="about">{about}</p>'
        f'{leaderboard(board, hardware)}{said}{plots}</section>'
    )


def _plots(board: Board, place: int, has_curves: bool) -> str:
    front = 'A ring and a name mark what nothing on the same hardware beats in both; the line joins these.'
    parts = [
        _figure(
            'forest',
            place,
            'Gain over vanilla',
            'Points: mean gain over vanilla over the shared seeds, best first (an error that falls gains); '
            'small marks: single seeds; line: '
            '95 % interval of the mean by Student’s t, before any correction, where there are two seeds or more. '
            'Hollow points rest on one seed and allow no statement.'
            + (
                ' Bars on the right join policies of which no two are told apart (paired t-tests, Holm over pairs).'
                if board.groups
                else ''
            ),
        )
        if board.reference
        else '<p class="note">Vanilla was not run: there are no gains.</p>',
        '<div class="pair">'
        + _figure(
            'seconds',
            place,
            f'{board.headline.label} and training time',
            f'Seconds of training, left is faster. {front}',
        )
        + _figure(
            'memory',
            place,
            f'{board.headline.label} and memory',
            f'Peak memory of the process or its GPU, left is less. {front}',
        )
        + '</div>',
    ]
    if has_curves:
        parts.append(
            _figure(
                'curves', place, 'Training curves', 'Mean over the seeds; the band goes from the lowest to the highest.'
            )
        )
    else:
        parts.append('<p class="note">Training curves: none are saved beside these results.</p>')
    return ''.join(parts)


def _emphasised(text: str) -> str:
    """Escaped, with warnings set off."""
    return re.sub(r'^(Not comparable:)', r'<strong>\1</strong>', escape(text, quote=False))
