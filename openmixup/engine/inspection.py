"""What a file of weights holds, found out without running anything in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.published import data_of
from openmixup.errors import InputError
from openmixup.reading import foreign_names, is_finite

__all__ = ['Contents', 'inspect_checkpoint']

LARGEST = 5


@dataclass
class Contents:
    """What :func:`inspect_checkpoint` found.

    Args:
        kind: 'run', 'weights', 'safetensors' or 'foreign pickle'.
        size: bytes of the file.
        foreign: names that a foreign pickle asks for; it was not loaded, and nothing below is known.
        version: of openmixup that wrote it; '' if it does not say.
        progress: 'epoch' and 'step', if it says so.
        classes: names of the classes.
        image_shape: [C, H, W] of the images.
        parts: by top-level key: number and bytes of the tensors below it.
        dtypes: number of tensors by type.
        largest: name, type, shape and bytes of the largest tensors.
        not_finite: names of weights with values that are not finite.
    """

    kind: str
    size: int
    foreign: list[str] = field(default_factory=list)
    version: str = ''
    progress: dict[str, int] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    image_shape: list[int] = field(default_factory=list)
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    largest: list[tuple[str, str, tuple[int, ...], int]] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)


def inspect_checkpoint(path: str | Path) -> Contents:
    """Look into a file of weights.

    Raises:
        InputError: no such file, or one that cannot be read as tensors and plain data although it asks for no code.
    """
    path = Path(path)
    try:
        content = read_checkpoint(path)
    except InputError:
        foreign = _foreign(path)
        if not foreign:
            raise
        return Contents('foreign pickle', path.stat().st_size, foreign)
    meta = content.get('meta')
    found = Contents(_kind(path, content), path.stat().st_size)
    found.version = str(meta.get('openmixup') or '') if isinstance(meta, dict) else ''
    found.classes, found.image_shape = data_of(content, path)
    for holder in ('progress', 'best'):
        place = content.get(holder)
        if isinstance(place, dict) and not found.progress:
            numbers = {'epoch': place.get('epoch'), 'step': place.get('iter')}
            found.progress = {name: number for name, number in numbers.items() if type(number) is int}
    tensors = {f'{key}.{name}' if name else str(key): (str(key), value)
               for key, item in content.items() for name, value in _named(item, '')}  # fmt: skip
    for part, value in tensors.values():
        count, size = found.parts.get(part, (0, 0))
        found.parts[part] = count + 1, size + value.nbytes
    found.dtypes = dict(Counter(str(value.dtype).removeprefix('torch.') for _, value in tensors.values()))
    by_size = sorted(tensors.items(), key=lambda item: -item[1][1].nbytes)[:LARGEST]
    found.largest = [
        (name, str(value.dtype).removeprefix('torch.'), tuple(value.shape), value.nbytes)
        for name, (_, value) in by_size
    ]
    found.not_finite = [name for name, (_, value) in tensors.items() if not is_finite(value)]
    return found


def _foreign(path: Path) -> list[str]:
    try:
        return foreign_names(path) if path.is_file() else []
    except Exception:  # damaged, which was said better already
        return []


def _kind(path: Path, content: dict[str, Any]) -> str:
    if path.suffix == '.safetensors':
        return 'safetensors'
    return 'run' if 'progress' in content and 'optimizer' in content else 'weights'


def _named(value: Any, name: str) -> list[tuple[str, Tensor]]:
    """All tensors below ``value`` with their dotted names."""
    if isinstance(value, Tensor):
        return [(name, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return [found for key, item in items for found in _named(item, f'{name}.{key}' if name else str(key))]
