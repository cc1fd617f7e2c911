"""Tables that name image files and their labels: CSV, TSV and JSON lines, with columns found by name."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from openmixup.datasets.checks import check_choice
from openmixup.datasets.image_files import ImageFiles
from openmixup.errors import InputError, did_you_mean, printable
from openmixup.registry import DATASETS

__all__ = ['ImageTable', 'find_metadata', 'metadata_rows', 'numbered', 'read_rows']

KINDS = ('.csv', '.tsv', '.jsonl')
SPLITS = ('train', 'val', 'test')
COLUMNS = {'path': ('path', 'file_name'), 'label': ('label',), 'split': ('split',)}
MOST_CLASSES = 1_000_000  # larger numbers are ids, of which each would get a class
_SAME = {'validation': 'val', 'valid': 'val', 'dev': 'val', 'training': 'train', 'testing': 'test'}


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a table by the names of its columns.

    Args:
        file: ``.csv`` (commas) or ``.tsv`` (tabs) with names in the first line, or ``.jsonl`` with an object a line.

    Raises:
        InputError: no such file, another kind, or a damaged one.
    """
    if not file.is_file():
        raise InputError(f'{file} is not a file: give a table of images ({", ".join(KINDS)}).')
    if file.suffix.lower() not in KINDS:
        raise InputError(f'{file} is of an unknown kind: give a table with the suffix {", ".join(KINDS)}.')
    try:
        with file.open(newline='', encoding='utf-8-sig') as stream:
            if file.suffix.lower() == '.jsonl':
                rows = [json.loads(line) for line in stream if line.strip()]
            else:
                rows = list(csv.DictReader(stream, delimiter='\t' if file.suffix.lower() == '.tsv' else ','))
    except (ValueError, csv.Error, RecursionError, OSError) as error:
        raise InputError(f'{file} cannot be read ({error}): correct it.') from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f'{file} has no rows with named columns: give names in the first line and an image a row.')
    return rows


def _column(rows: Sequence[Mapping[str, Any]], kind: str, given: str | None, file: Path) -> str | None:
    """The name of a column; None: the table has none, and needs none."""
    names = [name for name in rows[0] if isinstance(name, str)]
    found = next((name for name in ([given] if given else COLUMNS[kind]) if name in names), None)
    if found is None and (given or kind != 'split'):
        wanted = given or ' or '.join(COLUMNS[kind])
        hint = did_you_mean(wanted, names)
        raise InputError(
            f'{file} has no column {wanted!r}{hint} (it has {printable(", ".join(names), 200)}): name the one of the '
            f'{kind} by columns=dict({kind}=...).'
        )
    return found


def _located(rows: Sequence[Mapping[str, Any]], column: str, base: Path, file: Path) -> list[Path]:
    """The image files of a column, all below ``base``."""
    found = []
    for number, row in enumerate(rows, 1):
        name = str(row.get(column) or '')
        if not name or name.startswith('/') or '\\' in name or '..' in PurePosixPath(name).parts:
            raise InputError(f'{file}, row {number}: {printable(name)!r} is not a path below {base}: correct it.')
        found.append(base / name)
    return found


def numbered(values: Sequence[Any], classes: Sequence[str] | None, where: str) -> tuple[list[int], list[str]]:
    """Class numbers and class names of labels that are either names or whole numbers.

    Args:
        values: labels; where all are whole numbers of at least 0, they are the class numbers.
        classes: names in their order; None: the sorted names that occur, or '0', '1', ... as far as the largest number.
        where: for messages.

    Raises:
        InputError: an empty label, or one outside of ``classes``.
    """
    texts = [str(value).strip() if value is not None and not isinstance(value, bool) else '' for value in values]
    for number, value in enumerate(values, 1):
        if isinstance(value, list | dict):
            raise InputError(
                f'{where}, row {number}: the label {printable(str(value))!r} is several values: expected one class.'
            )
    if '' in texts:
        raise InputError(f'{where}, row {texts.index("") + 1}: the label is missing: correct it.')
    if classes is not None and set(texts) <= set(classes):
        number_of = {name: number for number, name in enumerate(classes)}
        return [number_of[text] for text in texts], list(classes)
    if all(text.isascii() and text.isdecimal() and len(text) < 10 for text in texts):
        highest = max(int(text) for text in texts)
        if classes is not None and highest >= len(classes):
            raise InputError(f'{where} has the label {highest} for {len(classes)} classes: correct it, or classes.')
        if classes is None and highest >= MOST_CLASSES:
            raise InputError(
                f'{where} has the label {highest}, but numbers count classes from 0: give classes, those that occur.'
            )
        return [int(t) for t in texts], list(classes) if classes is not None else [str(i) for i in range(highest + 1)]
    if classes is not None:
        strange = next(text for text in texts if text not in set(classes))
        hint = did_you_mean(strange, classes)
        raise InputError(f'{where} has the label {printable(strange)!r}, which is not in classes{hint}: correct it.')
    names = sorted(set(texts))
    return numbered(texts, names, where)


def _targets(values: Sequence[Any], where: str) -> list[float]:
    found = []
    for number, value in enumerate(values, 1):
        try:
            found.append(math.nan if isinstance(value, bool) else float(value))
        except (TypeError, ValueError):
            found.append(math.nan)
        if not math.isfinite(found[-1]):
            raise InputError(f'{where}, row {number}: {printable(value)!r} is not a finite number: correct it.')
    return found


def find_metadata(folder: Path) -> Path | None:
    """The table of a folder of images as the ``datasets`` library of Hugging Face reads it, if there is one."""
    return next((folder / name for name in ('metadata.csv', 'metadata.jsonl') if (folder / name).is_file()), None)


def metadata_rows(file: Path, part: str = '') -> tuple[list[Path], list[Any]]:
    """Files and labels of a metadata table, from its columns file_name and label.

    Args:
        file: the table; the names are relative to its folder.
        part: only what lies in this folder beside it.
    """
    rows = read_rows(file)
    columns = [_column(rows, kind, name, file) for kind, name in (('path', 'file_name'), ('label', None))]
    if part:
        rows = [row for row in rows if str(row.get('file_name') or '').startswith(f'{part}/')]
    return _located(rows, 'file_name', file.parent, file), [row.get(columns[1] or '') for row in rows]


@DATASETS.register_module()
class ImageTable(ImageFiles):
    """The images of a table: CSV, TSV or JSON lines, with columns found by name.

    Args:
        table: the file; one that is not found is looked for in ``root``.
        root: folder that the paths are relative to; None: that of the table.
        split: 'train' (random crops), 'val' or 'test'. Where the table has a column of splits, the rows of this one.
        columns: names of the columns, ``dict(path=..., label=..., split=...)``; by default path or file_name, label,
            and split if there is one; each row is then of train, val or test.
        target: 'class': labels are names or whole numbers; 'regression': any numbers.
        classes: names of the classes in their order; None: of all splits, the sorted names that occur, or '0', '1', ...
        size: side, or (height, width), of the samples in pixels.
        seed: seed of the crops.
        crop: arguments of :class:`SampleCrop`.
        on_error: 'raise' or 'skip' for an unreadable image; by default 'skip' in 'train' and 'raise' elsewhere.
        bad_image_budget: unreadable images that are skipped before one raises; below 1 a share of all images.

    Raises:
        InputError: a missing table, column or label, a path that leaves ``root``, or no row of the split.
    """

    def __init__(
        self,
        table: str | os.PathLike,
        root: str | os.PathLike | None = None,
        split: str = 'train',
        columns: Mapping[str, str] | None = None,
        target: str = 'class',
        classes: Sequence[str] | None = None,
        size: int | Sequence[int] = 224,
        seed: int = 0,
        crop: dict | None = None,
        on_error: str | None = None,
        bad_image_budget: float = 10,
    ) -> None:
        check_choice('split', split, SPLITS)
        check_choice('target', target, ('class', 'regression'))
        given = dict(columns or {})
        for key in given:
            check_choice('columns', key, tuple(COLUMNS))
        file = Path(table)
        if root is not None and not file.is_file():
            file = Path(root) / file
        rows = read_rows(file)
        path, label, part = (_column(rows, kind, given.get(kind), file) for kind in COLUMNS)
        labels: list[float] = []
        names: list[str] | None = None
        values = [row.get(label or '') for row in rows]
        if target == 'regression':
            labels = _targets(values, str(file))
        else:
            numbers, names = numbered(values, classes, str(file))
            labels = [*numbers]
        paths = _located(rows, path or '', file.parent if root is None else Path(root), file)
        splits = None if part is None else [_split_of(row, part, f'{file}, row {i}') for i, row in enumerate(rows, 1)]
        keep = [i for i in range(len(rows)) if splits is None or splits[i] == split]
        if not keep:
            raise InputError(f'{file} has no row of the split {split!r}: correct its column {part!r}.')
        super().__init__(
            [paths[i] for i in keep], [labels[i] for i in keep], names, size, split == 'train', crop, seed, on_error,
            bad_image_budget,
        )  # fmt: skip


def _split_of(row: Mapping[str, Any], column: str, where: str) -> str:
    text = str(row.get(column) or '').strip().lower()
    found = _SAME.get(text, text)
    if found not in SPLITS:
        hint = did_you_mean(found, [*SPLITS, *_SAME])
        raise InputError(
            f'{where}: the split {printable(text)!r} is none of {", ".join(SPLITS)}{hint}: correct it, or leave the '
            'row out.'
        )
    return found
