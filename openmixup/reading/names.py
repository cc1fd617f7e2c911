"""The names that a pickle asks for, read off its instructions; nothing is loaded."""

from __future__ import annotations

import io
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from openmixup.reading.archive import check_archive, is_archive

__all__ = ['foreign_names', 'names_of', 'todays_name']

PICKLES = 5  # in a file of torch before 1.6
_TEXTS = {'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'STRING', 'BINSTRING', 'SHORT_BINSTRING'}
_PUTS, _GETS = {'PUT', 'BINPUT', 'LONG_BINPUT'}, {'GET', 'BINGET', 'LONG_BINGET'}
_OWN = ('torch._utils._rebuild_', 'torch._tensor._rebuild_from_type_v2', 'collections.OrderedDict', 'torch.Size')


def foreign_names(path: Path) -> list[str]:
    """The names in a file of ``torch.save`` that stand for something else than a tensor, a storage or a dict.

    Raises:
        Exception: the file is damaged, or no pickle.
    """
    found: set[str] = set()
    if is_archive(path):
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith('.pkl'):
                    found |= names_of(io.BytesIO(archive.read(name)))
    else:
        with path.open('rb') as stream:
            for number in range(PICKLES):
                try:
                    found |= names_of(stream)
                except Exception:  # the storages, or no file of torch
                    if not number:
                        raise
                    break
    return sorted(name for name in found if not _plain(name))


def todays_name(module: str, name: str) -> str:
    """A name in a pickle of an old protocol, which has the modules of Python 2, as pickle would look it up."""
    if (module, name) in NAME_MAPPING:
        return '.'.join(NAME_MAPPING[module, name])
    return f'{IMPORT_MAPPING.get(module, module)}.{name}'


def _plain(name: str) -> bool:
    kind = name.rpartition('.')[2]
    is_torch = name in (f'torch.{kind}', f'torch.cuda.{kind}', f'torch.storage.{kind}')
    return name.startswith(_OWN) or (
        is_torch and (kind.endswith('Storage') or kind[0].islower() and kind[-1].isdigit())
    )


def names_of(stream: BinaryIO) -> set[str]:
    """All names that the pickle at the position of ``stream`` asks for.

    Where a name is put together from parts that cannot be followed, it is given as '?'.
    """
    return set(_names(stream))


def _names(stream: BinaryIO) -> Iterator[str]:
    texts: list[str] = []  # those pushed last; the newest two make a name
    memo: dict[int, str] = {}
    count = 0
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ('GLOBAL', 'INST'):
            yield todays_name(*str(argument).split(' ', 1))
        elif opcode.name == 'STACK_GLOBAL':
            yield '.'.join(texts[-2:]) if len(texts) > 1 else '?'
        elif opcode.name.startswith('EXT'):
            yield f'copyreg extension {argument}'
        elif opcode.name in _TEXTS:
            texts = [*texts[-1:], str(argument)]
        elif opcode.name in _PUTS and texts:
            memo[int(str(argument))] = texts[-1]
        elif opcode.name == 'MEMOIZE':
            if texts:
                memo[count] = texts[-1]
            count += 1
        elif opcode.name in _GETS:
            texts = [*texts[-1:], memo.get(int(str(argument)), '?')]
