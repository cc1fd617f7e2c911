import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.datasets import ImageFolder, ImageList
from openmixup.datasets.decode import read_image
from openmixup.datasets.sample_crop import SampleCrop
from openmixup.errors import InputError


def picture(h, w, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8))


def make_tree(root, classes=('ant', 'bee', 'cat'), count=6):
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(30 + 3 * i, 25 + 5 * c, seed=10 * c + i).save(root / name / f'{i}.jpg')
    return root


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / 'tree')


def truncate(path):
    path.write_bytes(path.read_bytes()[:-300])


def test_every_kind_of_image_is_read_as_pil_reads_it(tmp_path):
    base = picture(31, 47)
    kinds = {
        'rgb.jpg': base, 'grey.jpg': base.convert('L'), 'cmyk.jpg': base.convert('CMYK'), 'rgb.png': base,
        'alpha.png': base.convert('RGBA'), 'palette.png': base.convert('P'), 'bits.png': base.convert('1'),
        'x.webp': base, 'x.bmp': base, 'x.tiff': base,
    }  # fmt: skip
    for name, image in kinds.items():
        image.save(tmp_path / name)
        result = read_image(tmp_path / name)
        with Image.open(tmp_path / name) as saved:
            expected = torch.tensor(np.asarray(saved.convert('RGB'))).permute(2, 0, 1)
        assert result.dtype == torch.uint8
        assert torch.equal(result, expected), name
    deep = np.arange(31 * 47, dtype=np.uint16).reshape(31, 47) * 44
    Image.fromarray(deep).save(tmp_path / 'deep.png')
    assert torch.equal(read_image(tmp_path / 'deep.png')[1], torch.tensor((deep >> 8).astype(np.uint8)))


def test_bad_images_are_named(tmp_path):
    chunk = b'IHDR' + struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk + struct.pack('>I', zlib.crc32(chunk))
    picture(40, 40).save(tmp_path / 'cut.jpg')
    truncate(tmp_path / 'cut.jpg')
    for name, content in {'bomb.png': bomb, 'text.jpg': b'hello', 'empty.jpg': b'', 'cut.jpg': None}.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf'{name} cannot be decoded \(.+\)') as caught:
            read_image(tmp_path / name)
        assert '\n' not in str(caught.value)
    with pytest.raises(InputError, match='gone'):
        read_image(tmp_path / 'gone.jpg')


def test_folder_follows_the_convention(tree):
    (tree / '.hidden').mkdir()
    (tree / 'ant' / 'notes.txt').write_text('x')
    data = ImageFolder(tree, size=16, val_fraction=0)
    assert data.classes == ('ant', 'bee', 'cat')
    assert data.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    batch = data.__getitems__([0, 7, 17])
    assert batch['inputs'].shape == (3, 3, 16, 16)
    assert batch['inputs'].dtype == torch.uint8
    assert batch['labels'].tolist() == [0, 1, 2]


def test_crops_depend_on_seed_epoch_and_index_only(tree):
    data, state = ImageFolder(tree, size=16, val_fraction=0), torch.get_rng_state()
    first = data[4]['inputs']
    data[5]
    assert torch.equal(data[4]['inputs'], first)
    assert torch.equal(data[-14]['inputs'], first)
    data.set_epoch(3)
    third = data[4]['inputs']
    assert not torch.equal(third, first)
    assert torch.equal(ImageFolder(tree, size=16, val_fraction=0)[4 + 3 * 18]['inputs'], third)
    assert not torch.equal(ImageFolder(tree, size=16, val_fraction=0, seed=1)[4]['inputs'], first)
    assert torch.equal(torch.get_rng_state(), state)


def test_central_crop_is_that_of_torchvision(tree):
    from torchvision.transforms import v2

    data = ImageFolder(tree, split='val', size=14, val_fraction=0.3)
    pipeline = v2.Compose([v2.Resize(16, antialias=True), v2.CenterCrop(14)])
    for i in range(len(data)):
        assert torch.equal(data[i]['inputs'], pipeline(read_image(data.paths[i])))


def test_held_out_images_are_stratified_and_disjoint(tree):
    parts = {s: ImageFolder(tree, split=s, size=8, val_fraction=0.34) for s in ('train', 'val', 'all')}
    assert parts['val'].labels.bincount().tolist() == [2, 2, 2]
    assert parts['train'].labels.bincount().tolist() == [4, 4, 4]
    assert set(parts['train'].paths).isdisjoint(parts['val'].paths)
    assert set(parts['train'].paths) | set(parts['val'].paths) == set(parts['all'].paths)
    assert ImageFolder(tree, split='val', size=8, val_fraction=0.34).paths == parts['val'].paths
    assert ImageFolder(tree, split='val', size=8, val_fraction=0.34, seed=1).paths != parts['val'].paths
    with pytest.raises(InputError, match='no training image'):
        ImageFolder(tree, val_fraction=0.95)


def test_divided_folders_and_split_files(tmp_path):
    make_tree(tmp_path / 'train', count=2)
    make_tree(tmp_path / 'val', classes=('bee', 'cat'), count=1)
    val = ImageFolder(tmp_path, split='test', size=8)
    assert val.labels.tolist() == [1, 2]
    assert val.classes == ImageFolder(tmp_path, size=8).classes == ('ant', 'bee', 'cat')
    (tmp_path / 'list.txt').write_text('bee/1.jpg\nant/0.jpg\n')
    some = ImageFolder(tmp_path, size=8, split_file=tmp_path / 'list.txt')
    assert some.labels.tolist() == [1, 0]
    (tmp_path / 'list.txt').write_text('bee/7.jpg\n')
    with pytest.raises(InputError, match=r'line 1.*bee/7\.jpg'):
        ImageFolder(tmp_path, size=8, split_file=tmp_path / 'list.txt')
    with pytest.raises(InputError, match='already'):
        ImageFolder(tmp_path, split='all')
    assert len(ImageFolder(tmp_path, val_fraction=0.5)) == 6  # the division stands
    (tmp_path / 'val' / 'dog').mkdir()
    picture(9, 9).save(tmp_path / 'val' / 'dog' / '0.jpg')
    with pytest.raises(InputError, match="'dog'"):
        ImageFolder(tmp_path, split='val')


def test_list_of_images(tree):
    file = tree / 'list.txt'
    file.write_text('ant/0.jpg 2\n\nbee/1.jpg 0\n')
    data = ImageList(file, tree, size=8)
    assert data.labels.tolist() == [2, 0]
    assert data.num_classes == 3
    assert data.__getitems__([1, 0])['labels'].tolist() == [0, 2]
    file.write_text('ant/0.jpg,1\n')
    assert ImageList(file, tree, separator=',', classes=['a', 'b'], size=8).classes == ('a', 'b')
    for content in ('ant/0.jpg\n', 'ant/0.jpg x\n', 'ant/0.jpg -1\n', 'ant/0.jpg 20000000\n', '\n'):
        file.write_text(content)
        with pytest.raises(InputError, match=r'list\.txt'):
            ImageList(file, tree)


def test_truncated_file_raises_in_validation_and_is_skipped_in_training(tree):
    bad = tree / 'ant' / '5.jpg'
    truncate(bad)
    val = ImageFolder(tree, split='val', size=8, val_fraction=0.99 / 6 * 2, crop={'resize': 9})
    val.paths[0] = bad
    with pytest.raises(InputError, match=r'ant/5\.jpg'):
        val[0]
    train = ImageFolder(tree, size=8, val_fraction=0)
    with pytest.warns(RuntimeWarning, match=r'ant/5\.jpg'):
        sample = train[5]
    assert sample['labels'].item() == 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        train[5]


def test_budget_of_bad_images(tree):
    for i in range(3):
        truncate(tree / 'bee' / f'{i}.jpg')
    data = ImageFolder(tree, size=8, val_fraction=0, bad_image_budget=2)
    with pytest.warns(RuntimeWarning), pytest.raises(InputError, match=r'bad_image_budget=2.*bee/2\.jpg'):
        data.__getitems__(range(18))
    with pytest.raises(InputError, match=r'bee/0\.jpg'):
        ImageFolder(tree, size=8, val_fraction=0, on_error='raise')[6]


def test_wrong_folders_are_refused(tmp_path, tree):
    with pytest.raises(InputError, match='not a folder'):
        ImageFolder(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='no class folders'):
        ImageFolder(tmp_path / 'empty')
    with pytest.raises(InputError, match='val_fraction'):
        ImageFolder(tree, split='val', val_fraction=0)
    with pytest.raises(InputError, match='did you mean'):
        ImageFolder(tree, crop={'interpolaton': 'bicubic'})
    with pytest.raises(InputError, match='on_error'):
        ImageFolder(tree, on_error='ignore')
    (tree / 'zebra').mkdir()
    with pytest.raises(InputError, match='zebra'):
        ImageFolder(tree)


def test_a_folder_of_class_folders_needs_only_its_path(tree):
    train, val = ImageFolder(tree), ImageFolder(tree, split='val')
    assert train.labels.bincount().tolist() == [5, 5, 5]
    assert val.labels.bincount().tolist() == [1, 1, 1]
    (tree / 'list.txt').write_text('\n'.join(f'ant/{i}.jpg' for i in range(6)))
    assert len(ImageFolder(tree, split_file=tree / 'list.txt')) == 6


@pytest.mark.parametrize('other', ['valid', None])
@pytest.mark.parametrize('split', ['train', 'val', 'all'])
def test_a_half_divided_folder_is_refused(tmp_path, other, split):
    make_tree(tmp_path / 'train', count=2)
    if other:
        make_tree(tmp_path / other, count=2)
    with pytest.raises(InputError, match='neither val/ nor test/'):
        ImageFolder(tmp_path, split=split)


def test_a_class_may_be_called_train(tmp_path):
    make_tree(tmp_path, classes=('plane', 'train'), count=3)
    assert ImageFolder(tmp_path).classes == ('plane', 'train')


def test_a_split_file_means_the_true_name_first(tmp_path):
    make_tree(tmp_path / 'flat', classes=('ant/bee', 'bee'), count=1)
    (tmp_path / 'list.txt').write_text('bee/0.jpg\nant/bee/0.jpg\n')
    data = ImageFolder(tmp_path / 'flat', split_file=tmp_path / 'list.txt', size=8)
    assert data.labels.tolist() == [1, 0]


def test_samples_end_and_indices_carry_the_epoch(tree):
    data = ImageFolder(tree, split='all', size=8)
    samples = list(data)
    assert len(samples) == len(data) == 18
    assert all(torch.equal(a['inputs'], data[i]['inputs']) for i, a in enumerate(samples))
    assert data[18 * 5 + 3]['labels'] == data[3]['labels']
    with pytest.raises(IndexError):
        data[-19]


@pytest.mark.parametrize('shape', [(1, 6000), (6000, 1), (1, 100_000), (40, 700), (700, 40)])
@pytest.mark.parametrize('random', [True, False])
def test_a_strip_is_not_enlarged_as_a_whole(monkeypatch, shape, random):
    from torchvision.transforms.v2 import functional

    sizes = []

    def watched(image, *args, _resize=functional.resize, **kwargs):
        result = _resize(image, *args, **kwargs)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(functional, 'resize', watched)
    image = torch.arange(shape[0] * shape[1]).view(1, *shape).expand(3, -1, -1) % 7 * 30
    assert SampleCrop(224, random=random)(image.to(torch.uint8), torch.Generator()).shape == (3, 224, 224)
    assert all(size <= 3 * 4 * 256**2 for size in sizes)


@pytest.mark.parametrize('shape', [(40, 700), (701, 40), (41, 300), (40, 160), (60, 50)])
def test_the_central_crop_of_a_strip_is_that_of_the_whole(shape):
    from torchvision.transforms import v2

    row, column = torch.arange(shape[0])[:, None], torch.arange(shape[1])
    image = (128 + 60 * torch.sin(row / 15) + 60 * torch.sin(column / 15)).to(torch.uint8).expand(3, -1, -1)
    expected = v2.Compose([v2.Resize(64, antialias=True), v2.CenterCrop(56)])(image)
    difference = (SampleCrop(56, random=False)(image, torch.Generator()).int() - expected.int()).abs().max()
    assert difference <= (0 if max(shape) <= 4 * min(shape) else 4)
