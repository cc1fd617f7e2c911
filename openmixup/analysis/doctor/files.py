"""The data: sizes of its parts, classes without images, files that cannot be read."""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from openmixup.analysis.doctor import limits
from openmixup.analysis.doctor.report import Finding, size_text
from openmixup.datasets.decode import read_image
from openmixup.errors import InputError

__all__ = ['Looked', 'classes', 'images', 'look_at', 'sizes']

CHUNK = 10_000  # files handed to the threads at once
SHOWN = 20  # paths that the figures name


def sizes(datasets: Mapping[str, Any]) -> Iterator[Finding]:
    """How many images each part has."""
    counts = {part: len(dataset) for part, dataset in datasets.items()}
    number = next((dataset.num_classes for dataset in datasets.values()), None)
    shown = ', '.join(f'{part} {count:,}' for part, count in counts.items())
    values = {'images': counts, 'classes': number}
    kind = 'images for a regression' if number is None else f'images in {number} classes'
    yield Finding('data', 'ok', f'{shown} {kind}', values=values)


def classes(datasets: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether each part has images of each class; of a regression there is nothing to say."""
    if all(dataset.num_classes is None for dataset in datasets.values()):
        return
    shown: list[str] = []
    missing: list[tuple[str, str]] = []
    values: dict[str, Any] = {}
    seen: set[int] = set()
    for part, dataset in datasets.items():
        if id(dataset) in seen:  # val and test are often one
            continue
        seen.add(id(dataset))
        labels = torch.as_tensor(getattr(dataset, 'labels', ())).cpu()
        if labels.shape != (len(dataset),) or labels.is_floating_point():
            shown.append(f'{part} not known')
            continue
        counts = torch.bincount(labels, minlength=dataset.num_classes).tolist()
        names = list(getattr(dataset, 'classes', ())) or [str(label) for label in range(len(counts))]
        missing += [(part, names[label]) for label, count in enumerate(counts) if not count]
        shown.append(f'{part} {min(counts):,} to {max(counts):,}')
        values[part] = {'least': min(counts), 'most': max(counts)}
    found, remedy = f'{", ".join(shown)} images a class', ''
    if missing:
        part, name = missing[0]
        more = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
        found += f', where {part} has none of {name!r}{more}'
        remedy = f'add images of {name!r} to {part}, or remove the class from the other parts'
        values['missing'] = [f'{part}: {name}' for part, name in missing]
    yield Finding('classes', 'warn' if missing else 'ok', found, 'images of each class in each part', remedy, values)


@dataclass
class Looked:
    """What was seen of some image files.

    Attributes:
        total: files that were looked at.
        bad: sentences on those that cannot be decoded, by path.
        kinds: how many are unusual, by what they are.
        size: bytes of all of them.
    """

    total: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    kinds: Counter = field(default_factory=Counter)
    size: int = 0


def _ends_well(path: Path, kind: str | None) -> bool:
    """Whether the last bytes are those that end a JPEG or PNG; of other kinds they tell nothing."""
    end = {'JPEG': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82'}.get(kind or '')
    if end is None:
        return False
    with path.open('rb') as stream:
        stream.seek(-min(len(end), path.stat().st_size), os.SEEK_END)
        return stream.read() == end


def _look(path: Path, decode: bool) -> tuple[str, str, int]:
    """Why a file cannot be decoded, or ''; what is unusual about it, or ''; its bytes."""
    kind, size = '', 0
    try:
        size = path.stat().st_size
        with Image.open(path) as picture:
            kind = 'CMYK' if picture.mode == 'CMYK' else '16-bit' if picture.mode.startswith('I') else ''
            doubtful = picture.mode == 'F' or not _ends_well(path, picture.format)
    except Exception:  # PIL's plug-ins raise nearly anything on a damaged file
        doubtful = True
    if decode or doubtful:
        try:
            read_image(path)
        except InputError as error:
            return str(error), kind, size
    return '', kind, size


def look_at(paths: Sequence[Path], decode: bool) -> Looked:
    """Look at image files, by several threads.

    Args:
        paths: the files.
        decode: decode all of them; else those whose header or end looks wrong.
    """
    looked = Looked()
    with warnings.catch_warnings(), ThreadPoolExecutor(min(limits.cores(), 16)) as pool:
        warnings.simplefilter('ignore')
        for start in range(0, len(paths), CHUNK):
            some = paths[start : start + CHUNK]
            for path, (reason, kind, size) in zip(some, pool.map(lambda p: _look(p, decode), some), strict=True):
                looked.total, looked.size = looked.total + 1, looked.size + size
                if reason:
                    looked.bad[str(path)] = reason
                if kind:
                    looked.kinds[kind] += 1
    return looked


def sample(paths: Sequence[Path], count: int) -> list[Path]:
    """``count`` of the files, or all if there are fewer: always the same ones of the same list."""
    return list(paths) if len(paths) <= count else random.Random(0).sample(list(paths), count)


def images(datasets: Mapping[str, Any], count: int, full: bool) -> Iterator[Finding]:
    """Whether the images can be read.

    Args:
        datasets: data sets by part of the run.
        count: files that are drawn from each and decoded.
        full: look at the header and the end of all files besides.
    """
    seen: set[int] = set()
    for part, dataset in datasets.items():
        if id(dataset) in seen:
            continue
        seen.add(id(dataset))
        if hasattr(dataset, 'paths'):
            yield _images(part, dataset, count, full)
        elif hasattr(dataset, 'images'):
            size = dataset.images.numel() * dataset.images.element_size()
            shape = ' x '.join(str(side) for side in dataset.images.shape)
            found = f'{part} in memory, {shape} bytes ({size_text(size)}), read without a fault'
            yield Finding('images', 'ok', found, values={'part': part, 'size': size})


def _images(part: str, dataset: Any, count: int, full: bool) -> Finding:
    looked = look_at(sample(dataset.paths, count), decode=True)
    if full:
        bad = looked.bad
        looked = look_at(dataset.paths, decode=False)
        looked.bad |= bad
    share = len(looked.bad) / max(looked.total, 1)
    budget = dataset.bad_images.budget if getattr(dataset, 'on_error', 'raise') == 'skip' else 0
    level = 'ok' if not looked.bad else 'FAIL' if share * len(dataset.paths) > budget else 'warn'
    how = 'all headers of' if full else 'decoded'
    found = f'{part}: {how} {looked.total:,} of {len(dataset.paths):,} files, {len(looked.bad):,} unreadable'
    if looked.kinds:
        found += f', {" and ".join(f"{number:,} {kind}" for kind, number in sorted(looked.kinds.items()))}'
    remedy = ''
    if looked.bad:
        found += f' ({next(iter(looked.bad.values())).partition("; ")[0]})'
        remedy = 'replace them or take them out'
        if looked.total < len(dataset.paths):
            found += f', which makes about {share * len(dataset.paths):,.0f} in all'
            remedy += '; --full finds the others'
    expected = 'none' if not budget else f'none, or at most the {budget} that a run passes over'
    bad_paths = sorted(looked.bad)[:SHOWN]
    values = {'part': part, 'files': looked.total, 'bad': len(looked.bad), 'paths': bad_paths, **looked.kinds}
    return Finding('images', level, found, expected, remedy, values)
