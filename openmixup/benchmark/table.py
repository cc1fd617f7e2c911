"""A table as data: one recipe, the policies that are compared on it, and the seeds."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openmixup.errors import InputError, did_you_mean

__all__ = ['SCORES', 'Table', 'find_tables', 'load_table']

_KEYS = ('recipe', 'policies', 'seeds', 'published', 'published_score', 'vary', 'notes')
SCORES = ('last', 'median10', 'best', 'rmse', 'mape')  # what claims may be of; the last two of regressions


@dataclass(frozen=True)
class Table:
    """What ``benchmarks/<name>.py`` says.

    Attributes:
        path: the file.
        recipe: path of the recipe below configs/, with ``{epochs}`` in it if the epochs vary.
        policies: arguments of each policy by the name that leaves and results give it.
        seeds: seeds of the runs of each policy.
        published: policy -> (top-1 in percent or error, where it is published), or policy -> {epochs: (score, where)}.
        vary: ``dict(epochs=(200, 400))``, or empty.
        published_score: which score of ours the published figures are compared with: ``'last'`` epoch, ``'median10'``
            of the last ten, or ``'best'``, chosen on the test set as they were; of a regression also ``'rmse'`` or
            ``'mape'`` in the last epoch.
        notes: policy -> one sentence about its row, such as why it is behind vanilla.
    """

    path: Path
    recipe: str
    policies: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0,)
    published: Mapping[str, Any] = field(default_factory=dict)
    vary: Mapping[str, tuple] = field(default_factory=dict)
    published_score: str = 'last'
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes below configs/, one for each number of epochs."""
        if not self.vary:
            return (self.recipe,)
        return tuple(self.recipe.format(epochs=epochs) for epochs in self.vary['epochs'])

    def published_for(self, policy: str, epochs: int) -> tuple[float, str] | None:
        """The published score and its place, or None."""
        known = self.published.get(policy)
        return known.get(epochs) if isinstance(known, Mapping) else known


def _check(table: Table) -> Table:
    if not isinstance(table.recipe, str) or ('{epochs}' in table.recipe) != bool(table.vary):
        raise InputError(
            f'{table.path}: recipe={table.recipe!r} is to be a path below configs/, with {{epochs}} in it exactly if '
            'vary=dict(epochs=...) is given.'
        )
    if set(table.vary) - {'epochs'}:
        raise InputError(f'{table.path}: vary={dict(table.vary)!r} can hold epochs only.')
    if table.vary and not table.vary['epochs']:
        raise InputError(f'{table.path}: vary has no epochs: give some, or leave it out.')
    if table.published_score not in SCORES:
        hint = did_you_mean(str(table.published_score), SCORES)
        raise InputError(
            f'{table.path}: published_score={table.published_score!r}{hint} (it is one of {", ".join(SCORES)}).'
        )
    if not table.policies or not table.seeds:
        raise InputError(f'{table.path}: give at least one policy and one seed.')
    for name, policy in table.policies.items():
        kind = policy.get('type') if isinstance(policy, Mapping) else None
        if not isinstance(kind, str) or name.split('-')[0] != kind.lower():
            raise InputError(
                f'{table.path}: the policy {name!r} is {policy!r}; give dict(type=...) and name it after its type in '
                'lower case, with what differs from the usual after a hyphen (cutmix, cutmix-a1).'
            )
    for key, names in (('published', table.published), ('notes', table.notes)):
        for name in names:
            if name not in table.policies:
                raise InputError(f'{table.path}: {key} names {name!r}{did_you_mean(name, table.policies)}.')
    return table


def load_table(source: str | Path, folder: str | Path = 'benchmarks') -> Table:
    """Read a table.

    Args:
        source: path of a table, or the name of one in ``folder``.
        folder: where tables are looked for.

    Raises:
        InputError: no such table, or one that does not hold what a table holds.
    """
    path = Path(source)
    if path.suffix != '.py':
        path = Path(folder) / f'{source}.py'
    if not path.is_file():
        known = [p.stem for p in find_tables(folder)]
        raise InputError(f'there is no table {path}{did_you_mean(path.stem, known)} (known: {", ".join(known)}).')
    names = {key: value for key, value in runpy.run_path(str(path)).items() if not key.startswith('_')}
    strange = [key for key in names if key not in _KEYS]
    if strange or 'recipe' not in names or 'policies' not in names:
        wrong = f'sets {strange[0]!r}{did_you_mean(strange[0], _KEYS)}' if strange else 'lacks recipe or policies'
        raise InputError(f'{path} {wrong}; a table sets {", ".join(_KEYS)}.')
    return _check(Table(path=path, **names))


def find_tables(folder: str | Path = 'benchmarks') -> list[Path]:
    """The files in ``folder`` that set ``recipe`` and ``policies``, in the order of their names."""
    return [path for path in sorted(Path(folder).glob('*.py')) if {'recipe', 'policies'} <= _assigned(path)]


def _assigned(path: Path) -> set[str]:
    """Names that a file assigns at its top level, found without running it."""
    try:
        statements = ast.parse(path.read_text(encoding='utf-8')).body
    except SyntaxError as error:
        raise InputError(f'{path} cannot be read: line {error.lineno}: {error.msg}.') from error
    return {t.id for s in statements if isinstance(s, ast.Assign) for t in s.targets if isinstance(t, ast.Name)}
