"""The mean rank of policies over several tables."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openmixup.benchmark.scores import scores_by_seed
from openmixup.benchmark.significance import LEVEL, groups, holm, ranks, sign_flip_p
from openmixup.benchmark.standings import Board

__all__ = ['Ranked', 'Ranking', 'rank_over']


@dataclass(frozen=True)
class Ranked:
    """One policy that all tables have.

    Attributes:
        policy: its name.
        mean: mean of its ranks; 1 is best.
        ranks: its rank in each table.
    """

    policy: str
    mean: float
    ranks: tuple[float, ...]


@dataclass(frozen=True)
class Ranking:
    """Policies by their mean rank.

    Attributes:
        boards: names of the tables, with the length of training where one has several.
        tables: number of tables.
        seeds: how many seeds all of these policies share in each of them.
        ranked: best first; none if no two policies are in all tables.
        missing: other policies with results, and in how many of the tables they have any.
        groups: first and last place of neighbours of which no two are told apart over the tables.
        least_p: the least p that the sign-flip test can give with so many tables; None for one.
        alike: all headline figures are accuracies; errors have units of their own and cannot be added up for a test.
    """

    boards: tuple[str, ...]
    tables: int
    seeds: tuple[int, ...]
    ranked: tuple[Ranked, ...]
    missing: Mapping[str, int]
    groups: tuple[tuple[int, int], ...]
    least_p: float | None
    alike: bool = True


def rank_over(boards: Sequence[Board]) -> Ranking:
    """Rank the policies that all tables have a result of.

    Within a table they are ranked by the mean of its headline figure in the last epoch over the seeds that all of them
    share; equal ones share a rank. Tables, not seeds, are what a claim over data sets rests on: two policies are told
    apart by the exact sign-flip test of their differences, one for each table with its lengths, corrected by Holm for
    all pairs. Where one table counts points and another an error there is no test, for these cannot be added up.

    Args:
        boards: the tables.
    """
    found = [
        {
            standing.policy: scores_by_seed(standing.rows, board.headline)
            for standing in board.standings
            if standing.rows
        }
        for board in boards
    ]
    names = [name for name in found[0] if all(name in scores for scores in found)]
    seeds = [sorted(set.intersection(*(set(scores[name]) for name in names))) if names else [] for scores in found]
    everyone = dict.fromkeys(name for scores in found for name in scores)
    if len(names) < 2 or not all(seeds):
        names = []
    means = [
        {name: board.headline.sign * statistics.fmean(scores[name][seed] for seed in shared) for name in names}
        for board, scores, shared in zip(boards, found, seeds, strict=True)
    ]
    columns = [dict(zip(names, ranks([mean[name] for name in names]), strict=True)) for mean in means]
    ranked = [
        Ranked(name, statistics.fmean(column[name] for column in columns), tuple(column[name] for column in columns))
        for name in names
    ]
    ranked.sort(key=lambda one: one.mean)
    paths = list(dict.fromkeys(board.table.path for board in boards))
    by_table = [  # the lengths of one table are no independent evidence
        [mean for mean, board in zip(means, boards, strict=True) if board.table.path == path] for path in paths
    ]
    merged = [{name: statistics.fmean(mean[name] for mean in found) for name in names} for found in by_table]
    alike = all(board.headline.sign > 0 for board in boards)
    apart = _apart([one.policy for one in ranked], merged) if alike else set()
    return Ranking(
        boards=tuple(board.name for board in boards),
        tables=len(paths),
        seeds=tuple(map(len, seeds)),
        ranked=tuple(ranked),
        missing={name: sum(name in scores for scores in found) for name in everyone if name not in names},
        groups=tuple(groups(len(ranked), lambda one, other: (one, other) in apart)) if alike else (),
        least_p=2.0 ** (1 - len(paths)) if len(paths) > 1 else None,
        alike=alike,
    )


def _apart(names: Sequence[str], means: Sequence[Mapping[str, float]]) -> set[tuple[int, int]]:
    """Places of the pairs that are told apart over the tables."""
    pairs, values = [], []
    for one, other in itertools.combinations(range(len(names)), 2):
        p = sign_flip_p([mean[names[one]] - mean[names[other]] for mean in means])
        if p is not None:
            pairs.append((one, other))
            values.append(p)
    return {pair for pair, p in zip(pairs, holm(values), strict=True) if p < LEVEL}
