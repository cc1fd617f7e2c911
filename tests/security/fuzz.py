"""Damages small files at random and reads them at every door; prints as JSON what came of them.

``python fuzz.py weights|images FIRST COUNT FOLDER``: each number is one damaged file, the same one in every run.
"""

from __future__ import annotations

import faulthandler
import io
import json
import random
import sys
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from openmixup.datasets.decode import read_image
from openmixup.datasets.sample_crop import SampleCrop
from openmixup.engine import peak
from openmixup.engine.checkpoint import load_weights, read_checkpoint
from openmixup.engine.imported import import_weights
from openmixup.engine.inspection import inspect_checkpoint
from openmixup.engine.published import data_of, publish
from openmixup.errors import InputError
from openmixup.models.backbones.pretrained import load_pretrained


def damaged(data: bytes, rng: random.Random) -> bytes:
    """``data`` after one to four accidents: flipped bits, a cut end, parts that are copied, removed or wiped."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(content) + 1), rng.randint(1, 64)
        accident = rng.randrange(6)
        if accident <= 1 and content:
            content[place % len(content)] ^= 1 << rng.randrange(8)
        elif accident == 2:
            content = content[: max(place, 1)] if rng.random() < 0.3 else content
        elif accident == 3:
            source = rng.randrange(len(content) + 1)
            content[place : place + rng.choice((0, length))] = content[source : source + length]
        elif accident == 4:
            del content[place : place + length]
        else:
            content[place : place + length] = bytes([rng.choice((0, 255, rng.randrange(256)))]) * length
    return bytes(content)


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def checkpoint() -> dict:
    """What a run saves, in small."""
    net = Tiny()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net.student(torch.zeros(4, 3)).sum().backward()
    optimizer.step()
    return {
        'state_dict': dict(net.state_dict()), 'optimizer': optimizer.state_dict(), 'param_schedulers': [],
        'progress': {'seed': 0, 'epoch': 1, 'iter': 7, 'seconds': 1.5}, 'settings': {'model.type': 'Tiny', 'a.0': None},
        'history': [{'epoch': 1, 'val/top1': 50.0}], 'best': {'top1': 50.0, 'epoch': 1},
        'meta': {'openmixup': '1', 'classes': ['a', 'b'], 'image_shape': [3, 8, 8]},
    }  # fmt: skip


def weights(folder: Path) -> Callable[[random.Random], Path]:
    """A function that makes damaged files of four kinds, the pickle inside an archive among them."""
    whole = io.BytesIO()
    torch.save(checkpoint(), whole)
    old = io.BytesIO()
    torch.save(checkpoint(), old, _use_new_zipfile_serialization=False)
    source = folder / 'whole.pth'
    source.write_bytes(whole.getvalue())
    published = publish(source, folder / 'published').read_bytes()

    def make(rng: random.Random) -> Path:
        kind = rng.randrange(4)
        path = folder / ('damaged.safetensors' if kind == 3 else 'damaged.pth')
        if kind == 1:  # with the right checksums
            with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, 'w') as target:
                for name in archive.namelist():
                    content = archive.read(name)
                    target.writestr(name, damaged(content, rng) if name.endswith('.pkl') else content)
        else:
            path.write_bytes(damaged((whole.getvalue(), b'', old.getvalue(), published)[kind], rng))
        return path

    return make


def open_weights(path: Path) -> None:
    """Every door that reads weights; the first refusal is raised when all have been tried."""
    doors: list[Callable[[], object]] = [
        lambda: data_of(read_checkpoint(path), path),
        lambda: load_weights(Tiny(), path, strict=False),
        lambda: load_weights(Tiny(), path, strict=True),
        lambda: load_pretrained(Tiny().student, path),
        lambda: inspect_checkpoint(path),
        lambda: publish(path, path.with_name('out')).unlink(),
        lambda: import_weights(path, path.with_name('new.safetensors')),
    ]
    refusals = []
    for door in doors:
        try:
            door()
        except InputError as error:
            refusals.append(error)
    if len(refusals) > 1:  # these weights are of no backbone
        raise refusals[0]


def images(folder: Path) -> Callable[[random.Random], Path]:
    """A function that makes damaged images of every format that is read."""
    noise = Image.effect_noise((37, 23), 90)
    picture = Image.merge(
        'RGB', (noise, noise.rotate(90).resize(noise.size), noise.transpose(Image.Transpose.ROTATE_180))
    )
    kinds = [
        ('RGB', 'JPEG', {}), ('RGB', 'JPEG', {'progressive': True}), ('CMYK', 'JPEG', {}), ('L', 'JPEG', {}),
        ('RGB', 'PNG', {}), ('RGBA', 'PNG', {}), ('P', 'PNG', {}), ('1', 'PNG', {}), ('I;16', 'PNG', {}),
        ('RGB', 'WEBP', {}), ('RGB', 'TIFF', {'compression': 'tiff_lzw'}), ('RGB', 'TIFF', {}), ('RGB', 'BMP', {}),
        ('P', 'GIF', {}), ('RGB', 'PPM', {}), ('RGB', 'MPO', {'save_all': True, 'append_images': [picture]}),
    ]  # fmt: skip
    files = []
    for mode, kind, options in kinds:
        stream = io.BytesIO()
        (Image.new('I;16', (9, 7), 999) if mode == 'I;16' else picture.convert(mode)).save(stream, kind, **options)
        files.append(stream.getvalue())

    def make(rng: random.Random) -> Path:
        path = folder / 'damaged.jpg'
        path.write_bytes(damaged(rng.choice(files), rng))
        return path

    return make


def open_image(path: Path) -> None:
    """Read and crop it."""
    image = SampleCrop(8, random=False)(read_image(path), torch.Generator())
    assert image.shape == (3, 8, 8)


def main(kind: str, first: int, count: int, folder: Path) -> None:
    make, read = (weights(folder), open_weights) if kind == 'weights' else (images(folder), open_image)
    found = {'read': 0, 'refused': 0, 'wrong': []}
    for number in range(first, first + count):
        faulthandler.dump_traceback_later(30, exit=True)
        try:
            read(make(random.Random(f'{kind} {number}')))
            found['read'] += 1
        except InputError as error:
            said = str(error)
            found['refused'] += 1
            if '\n' in said or not said.endswith('.') or len(said) > 600:
                found['wrong'].append(f'{number}: {said!r}')
        except BaseException:
            found['wrong'].append(f'{number}: {traceback.format_exc()}')
        finally:
            faulthandler.cancel_dump_traceback_later()
    found['megabytes'] = peak.read(torch.device('cpu')) / 2**20
    print(json.dumps(found))


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
