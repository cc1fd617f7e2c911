"""The results of a table as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from openmixup.benchmark.leaves import recipe_numbers
from openmixup.benchmark.results import SETTINGS_VERSION, key_of, same_config
from openmixup.benchmark.runs import planned_runs
from openmixup.benchmark.table import Table

__all__ = ['current_rows', 'numbers', 'report', 'spread', 'to_vanilla']

_HEAD = (
    'policy', 'epochs', 'n', 'last epoch', 'median of last 10', 'best (chosen on the test set)', 'to vanilla',
    'published', 'seconds', 'hardware', 'commit',
)  # fmt: skip


def numbers(rows: Sequence[Mapping[str, str]], column: str) -> list[float]:
    """The values of a column where there are any."""
    return [float(row[column]) for row in rows if row[column]]


def spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation, or the one value."""
    if not values:
        return '–'
    sd = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):.2f}{sd}'


def _distinct(rows: Sequence[Mapping[str, str]], column: str, length: int | None = None) -> str:
    return ', '.join(dict.fromkeys(row[column][:length] for row in rows if row[column])) or '–'


def to_vanilla(rows: Sequence[Mapping[str, str]], vanilla: Sequence[Mapping[str, str]]) -> str:
    """Difference of the means of the last epoch, in points."""
    own, base = numbers(rows, 'top1_last'), numbers(vanilla, 'top1_last')
    if not own or not base or rows is vanilla:
        return '–'
    return f'{statistics.fmean(own) - statistics.fmean(base):+.2f}'


def _line(
    table: Table,
    policy: str,
    epochs: int,
    rows: Sequence[Mapping[str, str]],
    vanilla: Sequence[Mapping[str, str]],
    places: list[str],
) -> tuple[str, ...]:
    """The cells of one policy; where its published figure is from joins ``places``, which become footnotes."""
    published = '–'
    figure = table.published_for(policy, epochs)
    if figure is not None:
        value, place = figure
        if place not in places:
            places.append(place)
        published = f'{value:.2f} [{places.index(place) + 1}]'
    if not rows:
        return policy, str(epochs), '0', 'not run', 'not run', 'not run', '–', published, '–', '–', '–'
    seconds = numbers(rows, 'seconds')
    return (
        policy,
        str(epochs),
        str(len(rows)) + (f' of {len(table.seeds)}' if len(rows) < len(table.seeds) else ''),
        spread(numbers(rows, 'top1_last')),
        spread(numbers(rows, 'top1_median10')),
        spread(numbers(rows, 'top1_best')),
        to_vanilla(rows, vanilla),
        published,
        f'{statistics.fmean(seconds):.0f}' if seconds else '–',
        _distinct(rows, 'hardware'),
        _distinct(rows, 'commit', 11),
    )


def current_rows(
    table: Table, rows: Sequence[Mapping[str, str]], configs: str | Path = 'configs', epochs: int | None = None
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


def report(
    table: Table, rows: Sequence[Mapping[str, str]], configs: str | Path = 'configs', epochs: int | None = None
) -> str:
    """Markdown: one line for each policy and number of epochs.

    Top-1 in percent as mean ± sample standard deviation over the seeds; the difference to vanilla is that of the means
    of the last epoch. Rows of another config than that of today are only counted.

    Args:
        table: the table.
        rows: its results.
        configs: folder of the recipes.
        epochs: for the rows of a trial: their length.

    Raises:
        InputError: a leaf has not been written.
    """
    root = Path(configs)
    lengths = [recipe_numbers(root / recipe)['epochs'] for recipe in table.recipes] if epochs is None else [epochs]
    current, others = current_rows(table, rows, configs, epochs)
    places: list[str] = []
    lines, warnings = [], []
    for length in lengths:
        found = {policy: [row for row in current if key_of(row)[:2] == (policy, length)] for policy in table.policies}
        vanilla = found.get('vanilla', [])
        lines += [_line(table, policy, length, found[policy], vanilla, places) for policy in table.policies]
        for policy, own in found.items():
            older = [row for row in own if row['settings_version'] != str(SETTINGS_VERSION)]
            hashes = _distinct(older, 'config_hash')
            if ',' in hashes:
                warnings.append(
                    f'Not comparable: the seeds of {policy}, {length} epochs, had different configs ({hashes}).'
                )
    if others:
        warnings.append(f'{others} rows of another config are left out.')
    recipes = table.recipes if epochs is None else table.recipes[:1]
    named = ', '.join(f'`configs/{recipe}`' for recipe in recipes)
    seeds = ', '.join(map(str, table.seeds))
    text = [f'### {table.name}', '', f'Recipe{"s" if len(recipes) > 1 else ""} {named}, seeds {seeds}.']
    if epochs is not None:
        text[-1] += f' A trial of {epochs} epochs, not the recipe.'
    text[-1] += ' Top-1 in percent, mean ± standard deviation over the seeds.'
    text += ['', *(f'| {" | ".join(cells)} |' for cells in (_HEAD, ['---'] * len(_HEAD), *lines))]
    text += ['', *warnings] if warnings else []
    if places:
        text += ['', *(f'[{i}] {place}.  ' for i, place in enumerate(places, start=1))]
    if table.notes:
        text += ['', *(f'- {policy}: {note}' for policy, note in table.notes.items())]
    return '\n'.join(text)
