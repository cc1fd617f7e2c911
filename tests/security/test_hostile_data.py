"""Images and data sets of strangers: each hostile file is refused by name, runs nothing and fills no memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmixup.datasets import CIFAR10, TinyImageNet
from openmixup.datasets.cifar import read_pickle
from openmixup.datasets.decode import read_image
from openmixup.datasets.idx import read_idx
from openmixup.errors import InputError


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes) -> bytes:
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + b''.join(more)


def jpeg(width: int, height: int) -> bytes:
    """A small picture whose header says another size."""
    stream = io.BytesIO()
    Image.new('RGB', (8, 8)).save(stream, 'JPEG')
    data = stream.getvalue()
    place = data.index(b'\xff\xc0') + 5
    return data[:place] + struct.pack('>HH', height, width) + data[place + 4 :]


def saved(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.new('RGB', (8, 8)).save(stream, kind, **options)
    return stream.getvalue()


def tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 4, height)]
    entries = b''.join(struct.pack('<HHII', tag, kind, 1, value) for tag, kind, value in [*tags, (279, 4, 8)])
    return b'II*\0' + struct.pack('<IH', 8, len(tags) + 1) + entries + bytes(4)


VALUES, END = chunk(b'IDAT', zlib.compress(bytes(100))), chunk(b'IEND', b'')
IMAGES: dict[str, tuple[bytes, str]] = {
    'png of 60000x60000': (png(60_000, 60_000, VALUES, END), 'pixels'),
    'png of 2 billion rows': (png(1, 2**31 - 1, VALUES, END), 'pixels'),
    'jpeg of 65500x65500': (jpeg(65_500, 65_500), 'pixels'),
    'bmp of 60000x60000': (
        b'BM' + struct.pack('<IHHI', 54, 0, 0, 54) + struct.pack('<IiiHHIIiiII', 40, 60_000, 60_000, 1, 24, *[0] * 6),
        'pixels',
    ),
    'ppm of 60000x60000': (b'P6 60000 60000 255\n', 'pixels'),
    'gif of 65535x65535': (
        b'GIF89a' + struct.pack('<HH3x', 65_535, 65_535) + b',' + struct.pack('<HHHHx', 0, 0, 65_535, 65_535)
        + b'\2\2\x4c\1\0;',
        'pixels',
    ),
    'tiff of 60000x60000': (tiff(60_000, 60_000), 'pixels'),
    'png with a text that grows': (
        png(8, 8, chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(100_000_000), 1)), END), ''
    ),
    'png with a profile that grows': (
        png(8, 8, chunk(b'iCCP', b'a\0\0' + zlib.compress(bytes(100_000_000), 1)), END), ''
    ),
    'png of two sizes': (
        png(8, 8, chunk(b'IHDR', struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0)), END), ''
    ),
    'eps': (saved('EPS'), 'none of JPEG'),
    'pdf': (saved('PDF'), 'none of JPEG'),
    'icns': (saved('ICNS'), 'none of JPEG'),
    'psd': (b'8BPS\0\1' + bytes(100), 'none of JPEG'),
    'fits': (b'SIMPLE  =                    T' + bytes(3000), 'none of JPEG'),
    'svg': (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg>&e;</svg>', 'none of JPEG'),
    'pickle': (pickle.dumps(os.system, protocol=2), 'none of JPEG'),
}  # fmt: skip


@pytest.fixture
def ghostscript(tmp_path, marker, monkeypatch):
    """A program of this name that writes the marker."""
    (tmp_path / 'bin').mkdir()
    program = tmp_path / 'bin' / 'gs'
    program.write_text(f'#!/bin/sh\ntouch {marker}\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{program.parent}{os.pathsep}{os.environ["PATH"]}')


@pytest.mark.usefixtures('ghostscript')
@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('name', IMAGES)
def test_a_hostile_image_is_refused(tmp_path, name, suffix):
    content, said = IMAGES[name]
    path = tmp_path / f'image{suffix}'
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf'cannot be decoded \(.*{said}[^\n]*$'):
        read_image(path)


def test_a_file_without_an_end_is_refused(tmp_path):
    os.mkfifo(tmp_path / 'pipe.jpg')
    (tmp_path / 'device.jpg').symlink_to('/dev/zero')
    (tmp_path / 'loop.jpg').symlink_to(tmp_path / 'loop.jpg')
    (tmp_path / 'folder.jpg').mkdir()
    for name in ('pipe', 'device', 'loop', 'folder'):
        with pytest.raises(InputError, match=rf'{name}\.jpg cannot be decoded'):
            read_image(tmp_path / f'{name}.jpg')


def test_pictures_of_several_views_are_still_read(tmp_path):
    first, second = Image.new('RGB', (8, 6), 'red'), Image.new('RGB', (8, 6))
    first.save(tmp_path / 'camera.jpg', 'MPO', save_all=True, append_images=[second])
    assert read_image(tmp_path / 'camera.jpg').shape == (3, 6, 8)


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def bombs(marker: Path) -> dict[str, bytes]:
    calls = {
        'os.system': Call(os.system, f'touch {marker}'),
        'exec': Call(exec, f'open({str(marker)!r}, "w")'),
        'open': Call(open, str(marker), 'w'),
        'an array of objects': np.array([Call(os.system, f'touch {marker}')], dtype=object),
    }
    made = {name: pickle.dumps({b'data': call}, protocol=2) for name, call in calls.items()}
    return made | {
        'INST': f"(S'touch {marker}'\nios\nsystem\n.".encode(),
        'a memo of any size': b'\x80\x02]r\xff\xff\xff\x7f.',
    }


@pytest.mark.parametrize('name', ['os.system', 'exec', 'open', 'an array of objects', 'INST', 'a memo of any size'])
def test_a_hostile_pickle_of_cifar_is_refused(tmp_path, marker, name):
    path = tmp_path / 'data_batch_1'
    path.write_bytes(bombs(marker)[name])
    with pytest.raises(InputError, match=r'^[^\n]+$'):
        read_pickle(path)


def archive_of(marker: Path) -> bytes:
    """What torchvision would fetch for CIFAR-10, with a pickle that runs code for each part."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode='w:gz') as archive:
        for name in (*CIFAR10.parts['train'], *CIFAR10.parts['test'], CIFAR10.meta[0]):
            info = tarfile.TarInfo(f'{CIFAR10.folder}/{name}')
            info.size = len(bombs(marker)['exec'])
            archive.addfile(info, io.BytesIO(bombs(marker)['exec']))
    return stream.getvalue()


def test_a_fetched_archive_is_compared_with_the_known_hash_and_never_unpickled(tmp_path, marker, monkeypatch):
    from torchvision.datasets import CIFAR10 as Theirs
    from torchvision.datasets import utils

    content = archive_of(marker)
    asked = []

    def fetch(url, filename, *rest):
        asked.append(url)
        Path(filename).write_bytes(content)

    monkeypatch.setattr(utils, '_urlretrieve', fetch)
    monkeypatch.setattr(utils, '_get_redirect_url', lambda url, max_hops=3: url)
    with pytest.raises(InputError, match='the download failed: File not found or corrupted'):
        CIFAR10(tmp_path / 'data', download=True)
    assert asked[0].startswith('https://')
    assert not (tmp_path / 'data' / CIFAR10.folder).exists()
    # as if someone had made an archive of the same hash
    inner = hashlib.md5(bombs(marker)['exec']).hexdigest()
    monkeypatch.setattr(Theirs, 'tgz_md5', hashlib.md5(content).hexdigest())
    monkeypatch.setattr(Theirs, 'train_list', [[name, inner] for name in CIFAR10.parts['train']])
    monkeypatch.setattr(Theirs, 'test_list', [[name, inner] for name in CIFAR10.parts['test']])
    with pytest.raises(InputError, match=r'asks for .*exec, which no data file needs'):
        CIFAR10(tmp_path / 'data', download=True)


def test_a_gzip_that_grows_is_read_no_further_than_its_header_says(tmp_path):
    path = tmp_path / 'train-images-idx3-ubyte.gz'
    header = b'\0\0\x08\x03' + struct.pack('>III', 1, 28, 28)
    path.write_bytes(gzip.compress(header + bytes(50_000_000), 1))
    with pytest.raises(InputError, match='more values'):
        read_idx(path)
    path.write_bytes(gzip.compress(b'\0\0\x08\x03' + b'\xff' * 12))
    with pytest.raises(InputError, match='over .* values'):
        read_idx(path)


def tiny_imagenet(root: Path, names: list[str]) -> Path:
    folder = root / 'tiny-imagenet-200'
    (folder / 'val' / 'images').mkdir(parents=True)
    (folder / 'wnids.txt').write_text('n01\n')
    Image.new('RGB', (64, 64)).save(folder / 'val' / 'images' / 'val_0.JPEG')
    Image.new('RGB', (64, 64)).save(root / 'secret.JPEG')
    (folder / 'val' / 'val_annotations.txt').write_text(''.join(f'{name}\tn01\t0\t0\t9\t9\n' for name in names))
    return root


@pytest.mark.parametrize('name', ['../../../secret.JPEG', '/etc/passwd', '..', 'a/b.JPEG'])
def test_an_annotation_names_no_file_elsewhere(tmp_path, name):
    with pytest.raises(InputError, match='line 2: .* with a file of val/images'):
        TinyImageNet(tiny_imagenet(tmp_path, ['val_0.JPEG', name]), 'val')


def test_a_cache_that_holds_objects_is_made_anew(tmp_path, marker):
    root = tiny_imagenet(tmp_path, ['val_0.JPEG'])
    assert len(TinyImageNet(root, 'val', allow_subset=True)) == 1
    (cache,) = root.glob('tiny-imagenet-200-val-*.npy')
    with cache.open('wb') as stream:
        np.save(stream, np.array([Call(os.system, f'touch {marker}')], dtype=object), allow_pickle=True)
    assert len(TinyImageNet(root, 'val', allow_subset=True)) == 1
    assert np.load(cache, allow_pickle=False).dtype == np.uint8
