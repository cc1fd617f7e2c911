"""What is known of each policy: the figures that were measured here, and those that others have published."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openmixup.benchmark import Table, find_tables, load_table, read_rows
from openmixup.benchmark.report import spread, to_vanilla
from openmixup.benchmark.runs import results_file
from openmixup.benchmark.scores import current_rows, numbers

__all__ = ['markdown', 'measured', 'published']

_MEASURED = ('table', 'arguments', 'epochs', 'n', 'seeds', 'last epoch', 'median of last 10', 'to vanilla')
_PUBLISHED = ('table', 'arguments', 'epochs', 'top-1', 'published in')


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of cells."""
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, ['---'] * len(head), *lines))


def measured(root: Path) -> dict[str, str]:
    """Tables of our own results in Markdown, by the name of the policy.

    Args:
        root: folder of benchmarks/ and configs/.
    """
    lines: dict[str, list[Sequence[str]]] = defaultdict(list)
    for table in _tables(root):
        current = current_rows(table, read_rows(results_file(table, root)), root / 'configs')[0]
        groups: dict[tuple[int, str], list[Mapping[str, str]]] = defaultdict(list)
        for row in current:
            groups[int(row['epochs']), row['policy']].append(row)
        for epochs, name in sorted(groups, key=lambda key: (key[0], list(table.policies).index(key[1]))):
            own, vanilla = groups[epochs, name], groups.get((epochs, 'vanilla'), [])
            cells = (
                f'[{table.name}](benchmarks.md#{table.name})',
                _given(table.policies[name]),
                str(epochs),
                str(len(own)),
                ', '.join(str(seed) for seed in sorted(int(row['seed']) for row in own)),
                spread(numbers(own, 'top1_last')),
                spread(numbers(own, 'top1_median10')),
                to_vanilla(own, vanilla),
            )
            lines[table.policies[name]['type']].append(cells)
    return {policy: markdown(_MEASURED, found) for policy, found in lines.items()}


def published(root: Path) -> dict[str, str]:
    """Tables of the published results that our tables quote, each with its place, by the name of the policy.

    Args:
        root: folder of benchmarks/.
    """
    lines: dict[str, list[Sequence[str]]] = defaultdict(list)
    for table in _tables(root):
        for name in table.published:
            arguments = table.policies[name]
            by_place: dict[str, dict[int, float]] = defaultdict(dict)
            for epochs in map(_epochs, table.recipes):
                figure = table.published_for(name, epochs)
                if figure is not None:
                    by_place[figure[1]][epochs] = figure[0]
            for place, figures in by_place.items():
                top1 = ', '.join(f'{value:.2f}' for value in figures.values())
                cells = (f'`{table.name}`', _given(arguments), ', '.join(map(str, figures)), top1, place)
                lines[arguments['type']].append(cells)
    return {policy: markdown(_PUBLISHED, found) for policy, found in lines.items()}


def _tables(root: Path) -> list[Table]:
    return [load_table(path) for path in find_tables(root / 'benchmarks')]


def _epochs(recipe: str) -> int:
    """The length of a recipe, which its name must tell."""
    found = re.search(r'-(\d+)e_', recipe)
    assert found is not None, recipe
    return int(found[1])


def _given(arguments: Mapping[str, Any]) -> str:
    """The arguments that a table gives a policy."""
    given = [f'{name}={_short(value)}' for name, value in arguments.items() if name != 'type']
    return f'`{", ".join(given)}`' if given else 'defaults'


def _short(value: Any) -> str:
    """A value as in Python, but a config as the call that it stands for."""
    if isinstance(value, Mapping):
        inner = ', '.join(f'{name}={_short(item)}' for name, item in value.items() if name != 'type')
        return f'{value.get("type", "dict")}({inner})'
    if isinstance(value, list):
        return f'[{", ".join(map(_short, value))}]'
    return repr(value)
