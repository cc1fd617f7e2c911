"""Say what a file of weights holds, without running anything in it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openmixup.engine.inspection import Contents

__all__ = ['main']

KINDS = {
    'run': 'checkpoint of a run',
    'weights': 'weights',
    'safetensors': 'safetensors',
    'foreign pickle': 'foreign pickle, not loaded',
}
MOST_NAMES = 10


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tools/inspect_checkpoint.py``."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument('file', help='a checkpoint, weights of others, or a .safetensors file')
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is in the file; 1 if it asks for code, so that it was not loaded."""
    args = parser().parse_args(argv)
    from openmixup.engine.inspection import inspect_checkpoint

    found = inspect_checkpoint(Path(args.file))
    for name, text in lines(found):
        print(f'{name + ":":12s}{text}')
    return int(bool(found.foreign))


def lines(found: Contents) -> Iterator[tuple[str, str]]:
    """What is known, as a name and a text."""
    from openmixup.errors import printable

    def listed(names: Sequence[str]) -> str:
        more = f' and {len(names) - MOST_NAMES} more' if len(names) > MOST_NAMES else ''
        return ', '.join(printable(name) for name in names[:MOST_NAMES]) + more

    yield 'kind', KINDS[found.kind]
    yield 'size', _bytes(found.size)
    if found.foreign:
        yield 'asks for', listed(found.foreign)
        yield 'remedy', 'tools/import_weights.py takes the tensors out of it and runs nothing'
        return
    if found.version:
        yield 'openmixup', printable(found.version)
    if found.progress:
        yield 'progress', ', '.join(f'{name} {number}' for name, number in found.progress.items())
    if found.classes:
        yield 'classes', f'{len(found.classes)}: {listed(found.classes)}'
    if found.image_shape:
        yield 'images', 'x'.join(map(str, found.image_shape))
    for part, (count, size) in list(found.parts.items())[:MOST_NAMES]:
        yield 'tensors', f'{count} in {printable(part)} ({_bytes(size)})'
    if len(found.parts) > MOST_NAMES:
        rest = list(found.parts.values())[MOST_NAMES:]
        yield 'tensors', f'{sum(count for count, _ in rest)} more ({_bytes(sum(size for _, size in rest))})'
    yield 'dtypes', ', '.join(f'{count} {kind}' for kind, count in found.dtypes.items()) or 'no tensor'
    for name, kind, shape, size in found.largest:
        yield 'largest', f'{printable(name)} {kind} {"x".join(map(str, shape)) or "scalar"} ({_bytes(size)})'
    yield 'finite', f'no: {listed(found.not_finite)}' if found.not_finite else 'yes'


def _bytes(count: int) -> str:
    return f'{count / 1e6:.2f} MB' if count >= 10_000 else f'{count} bytes'
