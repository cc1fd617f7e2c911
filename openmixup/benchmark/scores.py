"""The scores in rows, and their differences over shared seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from openmixup.benchmark.results import key_of, same_config
from openmixup.benchmark.runs import planned_runs
from openmixup.benchmark.significance import Comparison, compare
from openmixup.benchmark.table import Table
from openmixup.errors import InputError
from openmixup.evaluation.headline import Headline

__all__ = [
    'REFERENCE',
    'Rows',
    'current_rows',
    'gain',
    'gains_by_seed',
    'mean_of',
    'numbers',
    'read_flops',
    'scores_by_seed',
]

REFERENCE = 'vanilla'  # the policy that gains are over
Rows = Sequence[Mapping[str, str]]


def numbers(rows: Rows, column: str) -> list[float]:
    """The values of a column where there are any."""
    return [float(row[column]) for row in rows if row[column]]


def mean_of(rows: Rows, column: str) -> float | None:
    """Mean of these; None where there are none."""
    values = numbers(rows, column)
    return statistics.fmean(values) if values else None


def scores_by_seed(rows: Rows, headline: Headline) -> dict[int, float]:
    """The headline figure of the last epoch of each seed."""
    column = headline.column('last')
    return {int(row['seed']): float(row[column]) for row in rows if row[column]}


def gains_by_seed(rows: Rows, reference: Rows, headline: Headline) -> dict[int, float]:
    """How much better the last epoch is, by the seeds that both have; of an error, how much smaller."""
    own, base = scores_by_seed(rows, headline), scores_by_seed(reference, headline)
    return {seed: headline.sign * (own[seed] - base[seed]) for seed in sorted(own.keys() & base.keys())}


def gain(rows: Rows, reference: Rows, headline: Headline) -> Comparison | None:
    """The gains over the seeds that both have; None if there is none."""
    found = gains_by_seed(rows, reference, headline)
    return compare(list(found.values())) if found else None


def current_rows(
    table: Table, rows: Rows, configs: str | Path = 'configs', epochs: int | None = None
) -> tuple[list[Mapping[str, str]], int]:
    """The rows of runs that the table plans, with the config of today, and how many have another config.

    Args:
        table: the table.
        rows: its results.
        configs: folder of the recipes.
        epochs: for the rows of a trial: their length.

    Raises:
        InputError: a leaf has not been written.
    """
    plan = {run.key: run for run in planned_runs(table, configs=configs, epochs=epochs)} if rows else {}
    known = [row for row in rows if key_of(row) in plan]
    current = [row for row in known if same_config(row, plan[key_of(row)].config_hash)]
    return current, len(known) - len(current)


def read_flops(path: str | Path) -> dict[str, float]:
    """The FLOP ratio of each registered policy, as ``make docs`` has counted it; empty if there is no such file.

    Raises:
        InputError: the file is no such file.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        saved = json.loads(path.read_text(encoding='utf-8'))
        return {name: float(costs['flops']) for name, costs in saved.items() if costs is not None}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f'{path} is to hold, as JSON, the costs of policies, each with "flops"; make docs writes it '
            f'({type(error).__name__}: {error}).'
        ) from error
