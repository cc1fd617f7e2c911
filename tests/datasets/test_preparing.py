"""Preparing a published data set: fetched, unpacked and verified, or told what to put where."""

import dataclasses
import hashlib
import os
import tarfile

import pytest

from openmixup.cli.prepare_data import main
from openmixup.datasets.official import Archive
from openmixup.datasets.preparing import absent, find_published, prepare, published, verify
from openmixup.errors import InputError


@pytest.fixture
def small(monkeypatch):
    """Let the numbers of a miniature be those that were published: ``small('cub200', archives)``."""

    def change(name, archives=(), **changes):
        kind = published()[name]
        splits = dict.fromkeys(kind.official.splits, 9)
        classes = 10 if name == 'fashion_mnist' else kind.official.classes and 3
        changes = {'splits': splits, 'classes': classes, 'hashes': dict, 'archives': lambda: archives, **changes}
        changed = dataclasses.replace(kind.official, **changes)
        monkeypatch.setattr(kind, 'official', changed)
        return kind

    return change


@pytest.fixture
def no_network(monkeypatch):
    """Whatever would be fetched is not."""

    def refuse(url, *_args):
        raise OSError(f'no way to {url}')

    monkeypatch.setattr('torchvision.datasets.utils.download_url', refuse)


def packed(root, base):
    root.mkdir(exist_ok=True)
    with tarfile.open(root / 'CUB_200_2011.tgz', 'w:gz') as archive:
        archive.add(base, base.name)
    return Archive('CUB_200_2011.tgz', gives='CUB_200_2011')


def test_an_archive_is_unpacked_and_verified_once(tmp_path, builders, small, no_network, capsys):
    """The second time nothing is unpacked, but all is verified."""
    archive = packed(tmp_path / 'data', builders['cub200'](tmp_path))
    small('cub200', [archive])
    assert main(['cub200', '--root', str(tmp_path / 'data')]) == 0
    out = capsys.readouterr().out.splitlines()
    place = tmp_path / 'data/CUB_200_2011'
    assert out[0].startswith('unpacking')
    assert out[1:] == [f'CUB-200-2011 in {place} is complete: train 9, test 9 images in 3 classes']
    assert main(['CUB200', '--root', str(tmp_path / 'data')]) == 0
    assert capsys.readouterr().out.splitlines() == out[1:]
    next(place.glob('images/*/test_1.jpg')).unlink()
    with pytest.raises(InputError, match=r'lacks 1 of its 9 test images, such as .*test_1\.jpg: unpack'):
        main(['cub200', '--root', str(tmp_path / 'data')])


def test_too_few_images_are_told(tmp_path, builders, small):
    builders['cub200'](tmp_path)
    kind = small('cub200', splits={'train': 9, 'test': 12})
    with pytest.raises(InputError, match='has 12 test images in 3 classes, but .* has 9 in 3'):
        verify(kind, tmp_path)


def test_known_hashes_are_compared(tmp_path, builders, small):
    base = builders['stl10'](tmp_path)
    md5 = hashlib.md5((base / 'train_X.bin').read_bytes()).hexdigest()
    assert verify(small('stl10', hashes=lambda: {'train_X.bin': md5}), tmp_path) == {'train': 9, 'test': 9}
    content = bytearray((base / 'train_X.bin').read_bytes())
    content[-1] ^= 1
    (base / 'train_X.bin').write_bytes(content)
    with pytest.raises(InputError, match=rf'train_X\.bin is not the official file: its MD5 is .* and not {md5}'):
        verify(published()['stl10'], tmp_path)


@pytest.mark.parametrize('name', ['agedb', 'cars', 'imagenet', 'places205'])
def test_what_is_not_given_out_freely_names_what_to_put_where(tmp_path, no_network, name):
    """Without its archives nothing is fetched, and the sentence has the page."""
    official = published()[name].official
    with pytest.raises(InputError, match=r' is not in .*: put .* there') as caught:
        main([name, '--root', str(tmp_path)])
    assert official.put in str(caught.value)
    assert str(caught.value).endswith(f'its page is {official.page}.')


@pytest.mark.parametrize('name', ['aircraft', 'cifar10', 'cub200', 'inat2018', 'stl10', 'tiny_imagenet'])
def test_a_download_that_fails_names_the_page(tmp_path, no_network, name):
    with pytest.raises(InputError, match=r'the download failed: no way to http.*its page is http'):
        main([name, '--root', str(tmp_path)])
    assert os.listdir(tmp_path) == ['.download.lock']


def test_the_list(tmp_path, builders, capsys):
    builders['cub200'](tmp_path)
    assert main(['--list', '--root', str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(published())
    rows = {line.split()[0]: [part.strip() for part in line.split('  ') if part.strip()] for line in lines}
    assert rows['cub200'] == [
        'cub200', 'CUB200', 'train 5,994 test 5,794', '200', '1.2 GB', 'yes',
        'for research and teaching, not for profit',
    ]  # fmt: skip
    assert rows['cars'][-2:] == ['no', published()['cars'].official.access]
    assert rows['agedb'][3] == '-'


def test_names(no_network):
    assert find_published('StanfordCars') is find_published('cars')
    with pytest.raises(InputError, match=r"no data set 'cub20'.*did you mean 'cub200'.*known: agedb, aircraft"):
        main(['cub20'])
    for argv in ([], ['cub200', '--list']):
        with pytest.raises(InputError, match='give the NAME'):
            main(argv)


def test_absent(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/1').touch()
    paths = [tmp_path / name for name in ('a/1', 'a/2', 'b/1')]
    assert absent(paths) == paths[1:]


@pytest.mark.parametrize('name', ['agedb', 'aircraft', 'inat2018', 'imagenet', 'tiny_imagenet'])
def test_each_kind_is_verified(tmp_path, builders, small, no_network, name):
    """No part of a verified data set is skipped."""
    builders[name](tmp_path)
    kind = small(name)
    if name == 'aircraft':
        changed = dataclasses.replace(kind.official, splits={'trainval': 9, 'train': 6, 'val': 3, 'test': 9})
        kind.official = changed
    counts = prepare(kind, tmp_path, lambda line: None)
    assert counts == dict(kind.official.splits)
