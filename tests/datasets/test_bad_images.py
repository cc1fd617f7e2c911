"""Unreadable images in training: skipped, counted over all processes, written down."""

from __future__ import annotations

import errno
import json
import multiprocessing
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.datasets import ImageFolder, ImageList
from openmixup.datasets.bad_images import BadImages
from openmixup.datasets.decode import read_image
from openmixup.datasets.loading import build_dataloader
from openmixup.errors import InputError

pytestmark = pytest.mark.filterwarnings('ignore:skipped')

BAD = ('bomb.png', 'cut.jpg', 'empty.jpg', 'text.jpg')
ODD = ('animated.png', 'animated.webp', 'cmyk.jpg', 'deep.png', 'deep_colour.png', 'pages.tiff')


def picture(seed, mode='RGB'):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)).convert(mode)


def bomb() -> bytes:
    chunk = b'IHDR' + struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk + struct.pack('>I', zlib.crc32(chunk))


def deep_colour() -> bytes:
    """A PNG of 16 bits a channel in three channels, which PIL cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    rows = b''.join(b'\0' + struct.pack('>72H', *range(0, 72 * 900, 900)) for _ in range(20))
    header = struct.pack('>IIBBBBB', 24, 20, 16, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / 'tree'
    for name in ('a', 'b'):
        (root / name).mkdir(parents=True)
        for i in range(6):
            picture(i).save(root / name / f'good{i}.png')
    (root / 'a' / 'empty.jpg').write_bytes(b'')
    (root / 'a' / 'text.jpg').write_bytes(b'hello')
    (root / 'b' / 'bomb.png').write_bytes(bomb())
    picture(7).save(root / 'b' / 'cut.jpg')
    (root / 'b' / 'cut.jpg').write_bytes((root / 'b' / 'cut.jpg').read_bytes()[:-200])
    picture(8, 'CMYK').save(root / 'a' / 'cmyk.jpg')
    Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24) * 130).save(root / 'a' / 'deep.png')
    (root / 'a' / 'deep_colour.png').write_bytes(deep_colour())
    for name in ('animated.png', 'animated.webp', 'pages.tiff'):
        picture(9).save(root / 'b' / name, save_all=True, append_images=[picture(10)], lossless=True)
    return root


def listed(report: Path) -> list[str]:
    return [Path(json.loads(line)['path']).name for line in report.read_text().splitlines()]


def test_odd_images_are_read_by_their_first_picture(tree):
    for name in ODD:
        image = read_image(next(tree.glob(f'*/{name}')))
        assert (image.dtype, image.shape) == (torch.uint8, (3, 20, 24)), name
        if name.startswith(('animated', 'pages')):
            first = torch.tensor(np.asarray(picture(9))).permute(2, 0, 1)
            assert torch.equal(image, first), name
    assert read_image(tree / 'a' / 'deep_colour.png').float().std() > 50  # not clipped to white


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('infinite', [False, True])
def test_bad_images_are_replaced_and_written_down_once(tree, tmp_path, workers, infinite):
    report = tmp_path / 'bad_images.jsonl'
    data = ImageFolder(tree, split='train', val_fraction=0, size=8, bad_image_budget=4)
    data.bad_images.report = report
    loader = build_dataloader(data, 4, shuffle=True, num_workers=workers, infinite=infinite)
    if infinite:
        stream = iter(loader)
        batches = [next(stream) for _ in range(12)]
    else:
        batches = [batch for epoch in (0, 1) for batch in (loader.set_epoch(epoch), list(loader))[1]]
    loader.close()
    assert sorted(listed(report)) == list(BAD)
    errors = [json.loads(line)['error'] for line in report.read_text().splitlines()]
    assert all('cannot be decoded' in error for error in errors)
    assert [len(batch['labels']) for batch in batches] == ([4] * 12 if infinite else [4, 4, 4, 4, 4, 2] * 2)
    alone = build_dataloader(
        ImageFolder(tree, split='train', val_fraction=0, size=8), 4, shuffle=True, infinite=infinite
    )
    stream = iter(alone)
    for batch in batches[:6]:
        other = next(stream)
        assert all(torch.equal(batch[key], other[key]) for key in other)


def test_the_substitute_is_the_next_readable_file_with_the_crop_of_the_sample(tree):
    data = ImageFolder(tree, split='train', val_fraction=0, size=8)
    bad = [place for place, path in enumerate(data.paths) if path.name in BAD]
    assert len(bad) == 4
    for place in bad:
        sample, again = data[place], data[place]
        good = next(k for k in range(place + 1, 99) if data.paths[k % len(data)].name not in BAD) % len(data)
        assert sample['labels'] == data.labels[good]
        assert torch.equal(sample['inputs'], again['inputs'])
        data.paths[place] = data.paths[good]  # had it been this file
        assert torch.equal(sample['inputs'], data[place]['inputs'])


@pytest.mark.parametrize('workers', [0, 2])
def test_over_the_budget_is_one_sentence(tree, tmp_path, workers):
    report = tmp_path / 'bad_images.jsonl'
    data = ImageFolder(tree, split='train', val_fraction=0, size=8, bad_image_budget=3)
    data.bad_images.report = report
    loader = build_dataloader(data, 4, shuffle=True, num_workers=workers)
    sentence = r'^more than bad_image_budget=3 bad .*repair those in .*allow more\.$'
    with pytest.raises(InputError, match=sentence) as caught:
        list(loader)
    assert '\n' not in str(caught.value)
    assert len(listed(report)) == 4
    assert not multiprocessing.active_children()


def test_processes_and_continued_runs_count_together(tree, tmp_path):
    """Each half of the images holds two bad ones."""
    report = tmp_path / 'bad_images.jsonl'
    parts = [ImageFolder(tree, split='train', val_fraction=0, size=8, bad_image_budget=3) for _ in range(2)]
    half = len(parts[0]) // 2
    for part in parts:
        part.bad_images.report = report
    parts[0].__getitems__(range(half))
    assert len(listed(report)) == 2
    parts[1].__getitems__(range(half))  # the same ones again
    assert len(listed(report)) == 2
    with pytest.raises(InputError, match='bad_image_budget=3'):
        parts[1].__getitems__(range(half, 2 * half))


def test_evaluation_raises_and_lists_nothing(tree, tmp_path):
    data = ImageFolder(tree, split='all', size=8)
    data.bad_images.report = tmp_path / 'bad_images.jsonl'
    for place, path in enumerate(data.paths):
        if path.name in BAD:
            with pytest.raises(InputError, match=f'{path.name} cannot be decoded'):
                data[place]
    assert not (tmp_path / 'bad_images.jsonl').exists()


@pytest.mark.parametrize('value', [-1, 1.0, 1.5, -0.1, True, 'many', None, float('nan')])
def test_a_budget_that_is_none_is_refused(tree, value):
    with pytest.raises(InputError, match='expected a whole number of images'):
        ImageFolder(tree, bad_image_budget=value)


def test_a_budget_may_be_a_share(tree):
    (tree / 'list.txt').write_text(
        ''.join(f'a/{name} 0\n' for name in ('good0.png', 'text.jpg', 'empty.jpg', 'good1.png'))
    )
    assert ImageList(tree / 'list.txt', tree, bad_image_budget=0.5).bad_images.budget == 2
    data = ImageList(tree / 'list.txt', tree, size=8, bad_image_budget=0.3)
    with (
        pytest.raises(InputError, match=r'bad_image_budget=0\.3 bad images, which is 1 here'),
        pytest.warns(RuntimeWarning),
    ):
        data.__getitems__(range(4))


def _add(report: Path, numbers: range) -> None:
    counted = BadImages(1000, 1000)
    counted.report = report
    for number in numbers:
        counted.add(Path(f'{number}.jpg'), InputError('x' * 2000))


def test_lines_of_several_processes_stay_whole(tmp_path):
    report = tmp_path / 'report.jsonl'
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=_add, args=(report, range(10 * k, 10 * k + 20))) for k in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(listed(report)) == sorted(f'{number}.jpg' for number in range(50))


def test_a_line_that_a_crash_cut_off_is_passed_over(tmp_path):
    report = tmp_path / 'report.jsonl'
    report.write_text('{"path": "0.jpg", "error": "x"}\n{"path": "1.jp')
    _add(report, range(3))
    lines = report.read_text().splitlines()
    assert lines[1] == '{"path": "1.jp'
    assert [json.loads(line)['path'] for line in (lines[0], *lines[2:])] == ['0.jpg', '1.jpg', '2.jpg']


def test_a_report_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'open', refuse)
    with pytest.raises(InputError, match=r'report\.jsonl cannot be written \(No space left on device\)'):
        _add(tmp_path / 'report.jsonl', range(1))
