"""The files of tables: found, run and checked."""

from __future__ import annotations

import ast
import runpy
import traceback
from pathlib import Path
from typing import Any

from openmixup.benchmark.table import Table
from openmixup.benchmark.table_checks import check_table
from openmixup.errors import InputError, did_you_mean, printable

__all__ = ['find_tables', 'load_table']

_KEYS = ('recipe', 'policies', 'seeds', 'published', 'published_score', 'vary', 'notes')
_FEW = 6  # so many names of tables are told


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
        raise InputError(f'there is no table {path}{_hint(path.stem, Path(folder))}.')
    names = {key: value for key, value in _run(path).items() if not key.startswith('_')}
    strange = [key for key in names if key not in _KEYS]
    if strange or 'recipe' not in names or 'policies' not in names:
        wrong = f'sets {strange[0]!r}{did_you_mean(strange[0], _KEYS)}' if strange else 'lacks recipe or policies'
        raise InputError(f'{path} {wrong}; a table sets {", ".join(_KEYS)}.')
    table = Table(path=path, **names)
    check_table(table)
    return table


def _hint(name: str, folder: Path) -> str:
    """The nearest name of a table, and some of those that ``folder`` holds; its files are not read."""
    known = sorted(path.stem for path in folder.glob('*.py'))
    if not known:
        return f' ({folder} holds none: run this where a checkout lies, or say by --benchmarks where they are)'
    nearest, some = did_you_mean(name, known), ', '.join(known[:_FEW])
    if len(known) > _FEW:
        some = f'{len(known)} tables' + ('' if nearest else f', such as {some}')
    return f'{nearest} ({folder} holds {some})'


def _run(path: Path) -> dict[str, Any]:
    """The names that a table sets; what goes wrong in it is told with its line."""
    try:
        return runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError) and error.filename in (None, str(path)):
            raise _unreadable(path, error) from error
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f'line {lines[-1]}: ' if lines else ''
        said = printable(f'{type(error).__name__}: {error}', 200)
        raise InputError(f'{path} does not run: {place}{said}; a table only sets {", ".join(_KEYS)}.') from error


def _unreadable(path: Path, error: Exception) -> InputError:
    line = getattr(error, 'lineno', None)
    place = f'line {line}: ' if line else ''
    return InputError(f'{path} cannot be read: {place}{printable(getattr(error, "msg", error), 200)}.')


def find_tables(folder: str | Path = 'benchmarks') -> list[Path]:
    """The files in ``folder`` that set ``recipe`` and ``policies``, in the order of their names.

    Raises:
        InputError: a file is no Python.
    """
    return [path for path in sorted(Path(folder).glob('*.py')) if {'recipe', 'policies'} <= _assigned(path)]


def _assigned(path: Path) -> set[str]:
    """Names that a file assigns at its top level, found without running it."""
    try:
        statements = ast.parse(path.read_text(encoding='utf-8')).body
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error
    targets: list[ast.expr] = []
    for statement in statements:
        targets += statement.targets if isinstance(statement, ast.Assign) else []
        targets += [statement.target] if isinstance(statement, ast.AnnAssign) else []
    names = (node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}
