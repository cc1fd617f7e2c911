"""Whether a table holds what a table holds; each mistake becomes one sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from openmixup.benchmark.table import Table
from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean, printable

__all__ = ['SCORES', 'check_table']

SCORES = ('last', 'median10', 'best', 'rmse', 'mape')  # what claims may be of; the last two of regressions
# names of files, command lines and Markdown are made of these names, and an underscore parts the words of a leaf's
_POLICY_NAME = re.compile(r'[a-z0-9]+(-[A-Za-z0-9.]+)*')


def check_table(table: Table) -> None:
    """Check all that a table says but whether its recipe is there and its policies are known.

    Raises:
        InputError: something is not what a table holds.
    """
    _check_recipe(table)
    _check_seeds(table)
    if not isinstance(table.policies, Mapping) or not table.policies:
        raise _wrong(table, f'policies={_shown(table.policies)}; give a dict of at least one policy by its name')
    for name, policy in table.policies.items():
        _check_policy(table, name, policy)
    for key in ('published', 'notes'):
        said = getattr(table, key)
        if not isinstance(said, Mapping):
            raise _wrong(table, f'{key}={_shown(said)}; give a dict by the names of policies')
        for name in said:
            if name not in table.policies:
                raise _wrong(
                    table, f'{key} names {name!r}{did_you_mean(name, table.policies)}', 'it has no such policy'
                )
    for name, figure in table.published.items():
        _check_published(table, name, figure)
    for name, note in table.notes.items():
        if not _is_words(note):
            raise _wrong(table, f'notes has {_shown(note)} for {name!r}; give one sentence')
    if table.published_score not in SCORES:
        hint = did_you_mean(table.published_score, SCORES)
        raise _wrong(
            table, f'published_score={_shown(table.published_score)}{hint}', f'it is one of {", ".join(SCORES)}'
        )


def _wrong(table: Table, said: str, more: str = '') -> InputError:
    return InputError(f'{table.path}: {said}{f" ({more})" if more else ""}.')


def _shown(value: object) -> str:
    return printable(repr(value), 100)


def _is_words(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_list(values: object) -> bool:
    """A list, a tuple or a range with something in it."""
    return isinstance(values, list | tuple | range) and len(values) > 0


def _check_recipe(table: Table) -> None:
    recipe, vary = table.recipe, table.vary
    if not isinstance(vary, Mapping) or (vary and set(vary) != {'epochs'}):
        raise _wrong(table, f'vary={_shown(vary)}; give dict(epochs=(200, 400)), or leave it out')
    epochs = vary.get('epochs', (1,))
    if not _is_list(epochs) or not all(is_whole(e, 1) for e in epochs) or len(set(epochs)) < len(epochs):
        raise _wrong(table, f'vary={_shown(vary)}; give different whole numbers of epochs from 1, or leave it out')
    inside = isinstance(recipe, str) and not {'', '/', '..'} & {*PurePosixPath(recipe).parts, recipe}
    if not inside or ('{epochs}' in recipe) != bool(vary):
        raise _wrong(
            table,
            f'recipe={_shown(recipe)} is to be a path below configs/, with {{epochs}} in it exactly if '
            'vary=dict(epochs=...) is given',
        )


def _check_seeds(table: Table) -> None:
    seeds = table.seeds
    if not _is_list(seeds) or not all(is_whole(seed, 0) for seed in seeds) or len(set(seeds)) < len(seeds):
        raise _wrong(table, f'seeds={_shown(seeds)}; give at least one, as different whole numbers from 0: (0, 1, 2)')


def _check_policy(table: Table, name: object, policy: object) -> None:
    if not isinstance(name, str) or not _POLICY_NAME.fullmatch(name):
        raise _wrong(
            table,
            f'the policy {name!r} needs a plain name: its type in lower case and, after hyphens, what differs from the '
            'usual, in letters, digits and dots',
            'cutmix, cutmix-a0.5',
        )
    kind = policy.get('type') if isinstance(policy, Mapping) else None
    if not isinstance(policy, Mapping) or not isinstance(kind, str) or name.split('-')[0] != kind.lower():
        raise _wrong(
            table,
            f'the policy {name!r} is {_shown(policy)}; give dict(type=...) and name it after its type in lower case, '
            'with what differs from the usual after a hyphen',
            'cutmix, cutmix-a0.5',
        )
    for key, value in policy.items():
        if not isinstance(key, str) or not _is_plain(value):
            raise _wrong(
                table,
                f'the policy {name!r} has {key}={_shown(value)}, which no config can say; give numbers, strings, '
                'lists, tuples and dicts',
            )


def _is_plain(value: Any) -> bool:
    """Whether its ``repr`` is Python source that gives it back; of a number of NumPy it is not."""
    if isinstance(value, Mapping):
        return all(type(key) in (str, int) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, bool) or (type(value) in (int, float) and is_number(value))


def _check_published(table: Table, name: str, figure: object) -> None:
    by_epochs = figure if isinstance(figure, Mapping) else {1: figure}
    if not by_epochs or not all(is_whole(epochs, 1) and _is_figure(one) for epochs, one in by_epochs.items()):
        raise _wrong(
            table,
            f'published has {_shown(figure)} for {name!r}; give the number from 0 and where it is published',
            "(96.1, 'A Paper, table 2') or {200: (96.1, 'A Paper, table 2')} by epochs",
        )
    strange = [epochs for epochs in by_epochs if table.vary and epochs not in table.vary['epochs']]
    if strange and isinstance(figure, Mapping):
        known = ', '.join(map(str, table.vary['epochs']))
        raise _wrong(table, f'published has a figure of {strange[0]} epochs for {name!r}', f'the table has {known}')


def _is_figure(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and is_number(value[0], 0) and _is_words(value[1])
