"""The files of leaves: several tables may ask for one, but only for the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from openmixup.benchmark.leaves import HEADER_FORM, Leaf, file_text
from openmixup.benchmark.table import Table
from openmixup.benchmark.table_files import find_tables, load_table
from openmixup.errors import InputError, printable

__all__ = ['check_leaves', 'header_of', 'refuse_clashes', 'superfluous_leaves', 'tables_beside', 'write_leaves']


def tables_beside(tables: Sequence[Table], folder: str | Path = 'benchmarks') -> list[Table]:
    """Those tables and all of ``folder`` that may make the same leaves: by recipes that lie beside theirs.

    Raises:
        InputError: a table in the folder cannot be read.
    """
    places = {PurePosixPath(recipe).parent for table in tables for recipe in table.recipes}
    found = {table.path.resolve(): table for table in map(load_table, find_tables(folder))}
    beside = {
        path: table
        for path, table in found.items()
        if places & {PurePosixPath(recipe).parent for recipe in table.recipes}
    }
    return list((beside | {table.path.resolve(): table for table in tables}).values())


def refuse_clashes(leaves: Sequence[Leaf]) -> None:
    """Check that no two tables, or recipes of one, ask for different leaves of one name.

    Raises:
        InputError: two do.
    """
    first: dict[Path, Leaf] = {}
    for leaf in leaves:
        other = first.setdefault(leaf.path, leaf)
        if other.body == leaf.body:
            continue
        lines = zip(other.body.splitlines(), leaf.body.splitlines(), strict=True)
        here, there = (printable(line, 200) for line in next(pair for pair in lines if pair[0] != pair[1]))
        raise InputError(
            f'{leaf.path} is asked for twice: {other.source} wants {here} and {leaf.source} wants {there}; write the '
            f'same in both, or name the row {leaf.policy!r} of one by what differs, as mixup-a02 says alpha=0.2.'
        )


def write_leaves(leaves: Sequence[Leaf], tables: Collection[str] | None = None) -> None:
    """Write the leaves that are missing or stale; those that are as one of their tables says stay as they are.

    Args:
        leaves: those of all tables that may make one.
        tables: write only the leaves of these tables, as headers name them; None: all.

    Raises:
        InputError: different leaves of one name, or in the place of one a file that was not generated, or was for a
            table that is not among those of ``leaves`` and wants something else; nothing has been written.
    """
    refuse_clashes(leaves)
    due: dict[Path, Leaf] = {}
    for leaf in _faulty(leaves, tables):
        due.setdefault(leaf.path, leaf)
    sources = {leaf.source for leaf in leaves}
    for path, leaf in due.items():
        if path.exists() and header_of(path) is None:
            raise InputError(
                f'{path} was not written by tools/make_configs.py, but {leaf.source} makes a leaf of that name: move '
                f'the file, or name the row {leaf.policy!r} otherwise.'
            )
        if path.exists() and header_of(path) not in sources and not leaf.written:
            raise InputError(
                f'{path} was made for {header_of(path)}, and {leaf.source} wants it to say something else: name the '
                f'row {leaf.policy!r} otherwise, or remove the file, if that table is gone.'
            )
    for path, leaf in due.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(leaf.text, encoding='utf-8')


def check_leaves(leaves: Sequence[Leaf], out: str | Path, tables: Collection[str] | None = None) -> list[str]:
    """What is wrong in ``out``: one line for each leaf that is missing, stale or superfluous.

    A leaf of several tables may name any of them in its header.

    Args:
        leaves: those of all tables that may make one.
        out: folder of the leaves.
        tables: look only for the leaves of these tables, as headers name them; None: for all.
    """
    paths = dict.fromkeys(leaf.path for leaf in _faulty(leaves, tables))
    complaints = [f'{"stale" if path.is_file() else "missing"}: {path}' for path in paths]
    return complaints + [f'superfluous: {path}' for path in superfluous_leaves(leaves, out, tables)]


def superfluous_leaves(leaves: Sequence[Leaf], out: str | Path, tables: Collection[str] | None = None) -> list[Path]:
    """The generated files that are none of ``leaves``.

    Args:
        leaves: those of all tables that may make one.
        out: folder of the leaves.
        tables: only files that name one of these tables, in the folders of ``leaves``; None: all below ``out``.
    """
    wanted = {leaf.path.resolve() for leaf in leaves}
    if tables is None:
        paths = set(Path(out).rglob('*.py'))
    else:
        paths = {path for folder in {leaf.path.parent for leaf in leaves} for path in folder.glob('*.py')}
    found = {path: header_of(path) for path in sorted(paths) if path.resolve() not in wanted}
    return [path for path, source in found.items() if source and (tables is None or source in tables)]


def header_of(path: Path) -> str | None:
    """The table that the header of a file names, as ``benchmarks/digits.py``; None if it was not generated."""
    with open(path, encoding='utf-8', errors='replace') as stream:
        header = HEADER_FORM.match(stream.readline())
    return header[1] if header else None


def _faulty(leaves: Sequence[Leaf], tables: Collection[str] | None) -> list[Leaf]:
    """The leaves of ``tables`` whose files are not what any table says that makes them."""
    texts: dict[Path, set[str]] = {}
    for leaf in leaves:
        texts.setdefault(leaf.path, set()).add(leaf.text)
    chosen = [leaf for leaf in leaves if tables is None or leaf.source in tables]
    return [leaf for leaf in chosen if file_text(leaf.path) not in texts[leaf.path]]
