"""Write the leaf configs that the benchmark tables ask for, or check them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ['main']


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make_configs.py', description=__doc__)
    parser.add_argument('tables', nargs='*', metavar='TABLE', help='names of tables or paths of them; default: all')
    parser.add_argument('--out', help='folder for the leaves (default: that of the recipes)')
    parser.add_argument('--configs', default='configs', help='folder of the recipes (default: %(default)s)')
    parser.add_argument('--benchmarks', default='benchmarks', help='folder of the tables (default: %(default)s)')
    parser.add_argument('--check', action='store_true', help='write nothing; exit 1 if a leaf is missing or stale')
    args = parser.parse_args(argv)
    args.out = args.configs if args.out is None else args.out
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; the exit code is 1 if ``--check`` finds a fault."""
    args = _arguments(argv)
    from openmixup.benchmark import leaf_files as files
    from openmixup.benchmark.leaves import leaves_of, source_of
    from openmixup.benchmark.table_files import find_tables, load_table

    sources = args.tables or find_tables(args.benchmarks)
    tables = list({table.path.resolve(): table for table in (load_table(s, args.benchmarks) for s in sources)}.values())
    everyone = files.tables_beside(tables, args.benchmarks) if args.tables else tables
    leaves = [leaf for table in everyone for leaf in leaves_of(table, args.configs, args.out)]
    only = {source_of(table) for table in tables} if args.tables else None
    count = len({leaf.path for leaf in leaves if only is None or leaf.source in only})
    if args.check:
        files.refuse_clashes(leaves)
        complaints = files.check_leaves(leaves, args.out, only)
        print('\n'.join(complaints) if complaints else f'{count} leaves in {args.out} are as their tables say.')
        return int(bool(complaints))
    files.write_leaves(leaves, only)
    print(f'{count} leaves of {len(tables)} tables written to {args.out}.')
    for path in files.superfluous_leaves(leaves, args.out, only):
        unknown = f'no table in {args.benchmarks} makes it: remove it, or name the table that does'
        print(f'superfluous: {path} (of {files.header_of(path)}; {unknown})')
    return 0
