"""What the plots of the page show, as plain data."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from openmixup.benchmark.curves import SERIES, Curve
from openmixup.benchmark.ranking import Ranking
from openmixup.benchmark.scores import REFERENCE, gains_by_seed, scores_by_seed
from openmixup.benchmark.standings import Board, Standing

__all__ = ['band', 'board_data', 'pareto_front', 'ranking_data']

_COSTS = ('seconds', 'memory')


def board_data(board: Board, curves: Sequence[Curve], hardware: Sequence[str]) -> dict[str, Any]:
    """The gains, costs and curves of a board.

    Args:
        board: the board.
        curves: those of its rows.
        hardware: names of the hardware, by which costs are told apart.
    """
    reference = board.reference
    run = [standing for standing in board.standings if standing.rows]
    by_policy = defaultdict(list)
    for curve in curves:
        by_policy[curve['policy']].append(curve)
    return {
        'name': board.name,
        'headline': _told(board),
        'seeds': len(board.table.seeds),
        'standings': [_standing_data(standing, reference) for standing in run],
        'costs': {name: _cost_data(run, name, hardware) for name in _COSTS},
        'tested': [standing.policy for standing in board.tested],
        'groups': board.groups,
        'curves': {
            standing.policy: {
                name: found
                for name in SERIES
                if (found := band([curve[name] for curve in by_policy[standing.policy] if name in curve]))
            }
            for standing in run
            if by_policy[standing.policy]
        },
    }


def _standing_data(standing: Standing, reference: Standing | None) -> dict[str, Any]:
    gains = gains_by_seed(standing.rows, reference.rows if reference is not None else (), standing.headline)
    found = standing.gain
    return {
        'policy': standing.policy,
        'mean': _short(standing.mean),
        'n': len(scores_by_seed(standing.rows, standing.headline)),
        'gain': 0.0 if standing.policy == REFERENCE else _short(found.mean) if found else None,
        'gains': [_short(value) for value in gains.values()],
        'low': _short(found.low) if found else None,
        'high': _short(found.high) if found else None,
        'p': _short(standing.gain_p),
        'flip': _short(found.flip_p) if found else None,
        'verdict': standing.verdict,
    }


def _cost_data(run: Sequence[Standing], name: str, hardware: Sequence[str]) -> list[dict[str, Any]]:
    """One point for each policy and kind of hardware; the front is that of one kind."""
    points: list[dict[str, Any]] = [
        {
            'policy': standing.policy,
            'hardware': hardware.index(cost.hardware),
            'n': cost.n,
            'cost': _short(getattr(cost, name)),
            'score': _short(standing.mean),
        }
        for standing in run
        for cost in standing.costs
        if getattr(cost, name) is not None and standing.mean is not None
    ]
    sign = run[0].headline.sign if run else 1
    for kind in range(len(hardware)):
        own = [point for point in points if point['hardware'] == kind]
        front = pareto_front([(point['cost'], sign * point['score']) for point in own])
        for place, point in enumerate(own):
            point['front'] = place in front
    return points


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Places of the points, each a cost and a score, that no other beats in one without loss in the other."""
    return {
        place
        for place, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
    }


def band(series: Sequence[Sequence[Sequence[float]]]) -> dict[str, Any] | None:
    """Mean, least and largest value at each epoch that all seeds have; None if there is none.

    Args:
        series: of each seed, the epochs and the values.
    """
    values: dict[int, list[float]] = defaultdict(list)
    for epochs, points in series:
        for epoch, value in zip(epochs, points, strict=True):
            values[int(epoch)].append(value)
    shared = sorted(epoch for epoch, found in values.items() if len(found) == len(series))
    if not shared:
        return None
    return {
        'n': len(series),
        'epoch': shared,
        'mean': [_short(statistics.fmean(values[epoch])) for epoch in shared],
        'low': [_short(min(values[epoch])) for epoch in shared],
        'high': [_short(max(values[epoch])) for epoch in shared],
    }


def ranking_data(ranking: Ranking, boards: Sequence[Board]) -> dict[str, Any]:
    """Mean ranks, and the means of each policy in each table for the radar plot."""
    means: Mapping[str, list[float | None]] = defaultdict(lambda: [None] * len(boards))
    for place, board in enumerate(boards):
        for standing in board.standings:
            if standing.rows:
                means[standing.policy][place] = _short(standing.mean)
    several = {name: found for name, found in means.items() if sum(value is not None for value in found) > 1}
    return {
        'boards': list(ranking.boards),
        'ranked': [{'policy': one.policy, 'mean': _short(one.mean), 'ranks': one.ranks} for one in ranking.ranked],
        'groups': list(ranking.groups),
        'means': several,
        'ranges': [
            _span([found[k] for found in several.values()])[:: board.headline.sign] for k, board in enumerate(boards)
        ],
        'headlines': [_told(board) for board in boards],
    }


def _told(board: Board) -> dict[str, Any]:
    """How the scripts name the headline figure."""
    figure = board.headline
    return {'label': figure.label, 'unit': figure.unit, 'step': figure.step, 'digits': figure.digits}


def _span(values: Sequence[float | None]) -> list[float]:
    """The least and the largest value; empty if there is none."""
    known = [value for value in values if value is not None]
    return [min(known), max(known)] if known else []


def _short(value: float | None) -> float | None:
    """Six significant digits: more would only make the page larger."""
    return None if value is None else float(f'{value:.6g}')
