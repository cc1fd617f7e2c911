"""Figures of matplotlib without its global state, and the table of numbers beside each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openmixup.engine.files import write_atomically
from openmixup.errors import InputError

__all__ = ['FORMATS', 'check_figure', 'figure', 'write_csv', 'write_figure']

FORMATS = ('.svg', '.png', '.pdf')


def check_figure(path: str | Path) -> Path:
    """``path``, if a figure can be written there.

    Raises:
        InputError: it has another ending, or lies in no folder.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f'{path} is no name for a figure: it must end in {", ".join(FORMATS)}.')
    if not path.parent.is_dir():
        raise InputError(f'{path} cannot be written: the folder {path.parent} does not exist.')
    return path


def figure(
    columns: int, width: float, height: float, rows: int = 1, heights: Sequence[float] | None = None
) -> tuple[Any, Any]:
    """A figure and its axes as a list of rows; ``width`` of one column and ``height`` of all rows in inches."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(columns * width, height), layout='constrained')
    return drawn, drawn.subplots(rows, columns, squeeze=False, height_ratios=heights)


def write_figure(drawn: Any, path: str | Path) -> Path:
    """Write a figure whole or not at all; equal figures give equal files."""
    import matplotlib

    path = check_figure(path)
    kind, content = path.suffix.lower()[1:], io.BytesIO()
    undated = {'svg': {'Date': None}, 'pdf': {'CreationDate': None}, 'png': {}}[kind]
    with matplotlib.rc_context({'svg.hashsalt': 'openmixup'}):
        drawn.savefig(content, format=kind, dpi=150, metadata=undated)
    write_atomically(path, lambda stream: stream.write(content.getvalue()))
    return path


def write_csv(path: str | Path, names: Sequence[str], lines: Iterable[Sequence[Any]]) -> Path:
    """Write the table of a figure beside it, under the same name with the ending .csv."""
    path, text = Path(path).with_suffix('.csv'), io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(names)
    writer.writerows(lines)
    write_atomically(path, lambda stream: stream.write(text.getvalue().encode()))
    return path
