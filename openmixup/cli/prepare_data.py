"""``tools/prepare_data.py``: bring a published data set into a folder and verify it, or list what there is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from openmixup.errors import InputError

__all__ = ['main']


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare one data set, or list all of them."""
    parser = argparse.ArgumentParser(
        prog='prepare_data',
        description='Fetch a published data set where its owners allow it, unpack it, and verify files and numbers of '
        'images. What is there already is verified only.',
    )
    parser.add_argument('name', nargs='?', help='short name, as of --list, or type of a data set')
    parser.add_argument('--root', default='data', metavar='DIR', help='folder of the data sets (default: %(default)s)')
    parser.add_argument('--list', action='store_true', help='what there is: images, classes, size, terms, here or not')
    args = parser.parse_args(argv)
    if args.list == (args.name is not None):
        raise InputError('give the NAME of a data set, or --list.')
    if args.list:
        print(_table(args.root))
        return 0

    from openmixup.datasets.preparing import find_published, prepare

    kind = find_published(args.name)
    counts = prepare(kind, args.root, lambda line: print(line, flush=True))
    official = kind.official
    parts = ', '.join(f'{split} {count:,}' for split, count in counts.items())
    kinds = f' in {official.classes:,} classes' if official.classes else ''
    print(f'{official.title} in {official.locate(args.root, next(iter(counts)))} is complete: {parts} images{kinds}')
    return 0


def _table(root: str) -> str:
    """One line for each published data set."""
    from openmixup.datasets.preparing import published

    rows = [('name', 'type', 'images', 'classes', 'download', f'in {root}', 'terms')]
    for name, kind in published().items():
        official = kind.official
        here = [split for split in official.splits if official.find(root, split) is not None]
        state = 'yes' if len(here) == len(official.splits) else ' '.join(here) or 'no'
        images = ' '.join(f'{split} {count:,}' for split, count in official.splits.items())
        classes = f'{official.classes:,}' if official.classes else '-'
        rows.append((name, kind.__name__, images, classes, official.download, state, official.access))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
