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
    from openmixup.benchmark.leaves import check_leaves, leaves_of
    from openmixup.benchmark.table import find_tables, load_table

    sources = args.tables or find_tables(args.benchmarks)
    tables = [load_table(source, args.benchmarks) for source in sources]
    leaves = [leaf for table in tables for leaf in leaves_of(table, args.configs, args.out)]
    only = [table.name for table in tables] if args.tables else None
    if args.check:
        complaints = check_leaves(leaves, args.out, only)
        print('\n'.join(complaints) if complaints else f'{len(leaves)} leaves in {args.out} are as their tables say.')
        return int(bool(complaints))
    for leaf in leaves:
        leaf.path.parent.mkdir(parents=True, exist_ok=True)
        leaf.path.write_text(leaf.text, encoding='utf-8')
    print(f'{len(leaves)} leaves of {len(tables)} tables written to {args.out}.')
    for complaint in check_leaves(leaves, args.out, only):
        print(f'{complaint} (no table makes it: remove it)')
    return 0
