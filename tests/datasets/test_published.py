"""Every published data set: its miniature in the official layout builds, is checked, and trains a step."""

import dataclasses
import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from scipy.io import savemat
from torchvision.datasets import imagenet

from openmixup.datasets import build_dataloader
from openmixup.datasets.preparing import published, read_devkit
from openmixup.errors import InputError
from openmixup.policies import Mixup
from openmixup.registry import DATASETS

NAMES = [
    'agedb', 'aircraft', 'cars', 'cifar10', 'cifar100', 'cub200', 'fashion_mnist', 'imagenet', 'imdb_wiki', 'inat2017',
    'inat2018', 'places205', 'stl10', 'tiny_imagenet',
]  # fmt: skip
AGES = ('agedb', 'imdb_wiki')
CLASSES = {
    'aircraft': ('707-320', 'Cessna 172', 'A300B4'),
    'cars': ('AM General Hummer SUV 2000', 'Acura RL Sedan 2012', 'Acura TL Sedan 2012'),
    'cifar10': ('apple', 'aquarium_fish', 'baby'),
    'cifar100': ('apple', 'aquarium_fish', 'baby'),
    'cub200': ('001.Black_footed_Albatross', '002.Laysan_Albatross', '003.Sooty_Albatross'),
    'imagenet': ('tench, Tinca tinca', 'goldfish, Carassius auratus',
                 'great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias'),
    'inat2017': ('Abaeis nicippe', 'Abies alba', 'Zea mays'),
    'inat2018': ('Abaeis nicippe', 'Abies alba', 'Zea mays'),
    'places205': ('a/abbey', 'a/airport_terminal', 'a/alley'),
    'stl10': ('airplane', 'bird', 'car'),
    'tiny_imagenet': ('name0', 'name1', 'name2'),
}  # fmt: skip
# As published: images of training and of the held-out part, classes.
SIZES = {
    'agedb': (12208, 2140, 0), 'aircraft': (6667, 3333, 100), 'cars': (8144, 8041, 196), 'cifar10': (50000, 10000, 10),
    'cifar100': (50000, 10000, 100), 'cub200': (5994, 5794, 200), 'fashion_mnist': (60000, 10000, 10),
    'imagenet': (1281167, 50000, 1000), 'imdb_wiki': (191509, 11022, 0), 'inat2017': (579184, 95986, 5089),
    'inat2018': (437513, 24426, 8142), 'places205': (2448873, 20500, 205), 'stl10': (5000, 8000, 10),
    'tiny_imagenet': (100000, 10000, 200),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_package(monkeypatch):
    """As on a machine without Debian's package of Fashion-MNIST."""
    monkeypatch.setattr('openmixup.datasets.idx._DEBIAN', Path('/nowhere'))


def parts(name):
    train, *held = published()[name].official.splits
    return train, held[0]


def build(name, root, split, **options):
    kind = published()[name]
    sized = {'size': 32} if hasattr(kind, 'read') else {}
    return DATASETS.build({'type': kind.__name__, 'root': root, 'split': split, **sized, **options})


def test_these_are_published():
    assert list(published()) == NAMES
    for name, (train, held, classes) in SIZES.items():
        official = published()[name].official
        assert [official.splits[split] for split in parts(name)] == [train, held]
        assert official.classes == classes


@pytest.mark.parametrize('name', NAMES)
def test_a_miniature_in_the_official_layout(tmp_path, builders, greys, name):
    """Below its folder or given as the folder itself: images, labels and classes are those that were written."""
    base = builders[name](tmp_path)
    for root, split, part in ((tmp_path, parts(name)[0], 'train'), (base, parts(name)[1], 'test')):
        data = build(name, root, split, allow_subset=True)
        channels, side = data.image_shape[0], data.image_shape[1]
        batch = data.__getitems__(range(len(data)))
        assert batch['inputs'].shape == (9, channels, side, side)
        assert batch['inputs'].dtype == torch.uint8
        middle = batch['inputs'][:, 0, side // 2 + 5, side // 2].int().tolist()
        expected = greys(part)
        if name in AGES:
            ages = [20.0 * (k // 3) + k % 3 for k in range(9)]
            assert batch['labels'].dtype == torch.float32
            assert batch['labels'].tolist() == [[age] for age in ages]
            assert (data.num_classes, data.classes) == (None, ())
            found = sorted(zip(middle, range(9), strict=True))
            expected = [(grey, k) for k, (grey, _) in enumerate(expected)]
        else:
            assert batch['labels'].dtype == torch.int64
            found = sorted(zip(middle, batch['labels'].tolist(), strict=True))
            assert data.classes == CLASSES.get(name, data.classes)
        assert [label for _, label in found] == [label for _, label in sorted(expected)]
        assert np.allclose([grey for grey, _ in found], [grey for grey, _ in sorted(expected)], atol=2)


@pytest.mark.parametrize('name', NAMES)
def test_sizes_are_checked(tmp_path, builders, name):
    builders[name](tmp_path)
    train, held, classes = SIZES[name]
    for split, count in zip(parts(name), (train, held), strict=True):
        kinds = f' in {classes:,} classes' if classes else ''
        found = (
            rf'has {count:,} {split} images{kinds}, but .* has 9.*: complete it .*`python tools/prepare_data.py {name}`'
        )
        with pytest.raises(InputError, match=rf'{found}.* allow_subset=True\.$'):
            build(name, tmp_path, split)


@pytest.mark.parametrize('name', NAMES)
def test_the_published_number_passes(tmp_path, builders, monkeypatch, name):
    """With the numbers of the miniature in place of the published ones it is taken without being a subset."""
    builders[name](tmp_path)
    kind = published()[name]
    classes = 10 if name == 'fashion_mnist' else kind.official.classes and 3
    changed = dataclasses.replace(kind.official, splits=dict.fromkeys(kind.official.splits, 9), classes=classes)
    monkeypatch.setattr(kind, 'official', changed)
    assert len(build(name, tmp_path, parts(name)[0])) == 9
    monkeypatch.setattr(kind, 'official', dataclasses.replace(changed, splits=dict.fromkeys(kind.official.splits, 8)))
    with pytest.raises(InputError, match='8 .* images'):
        build(name, tmp_path, parts(name)[0])
    if classes:
        monkeypatch.setattr(kind, 'official', dataclasses.replace(changed, classes=classes + 1))
        with pytest.raises(
            InputError, match=f'9 .* images in {classes + 1} classes, but .* has 9 in {classes} classes'
        ):
            build(name, tmp_path, parts(name)[0])


@pytest.mark.parametrize('name', NAMES)
def test_nothing_there_names_the_command(tmp_path, name):
    with pytest.raises(InputError, match=rf'is not in .*: run `python tools/prepare_data.py {name} --root .*`, or put'):
        build(name, tmp_path, parts(name)[0])
    with pytest.raises(InputError, match='split='):
        build(name, tmp_path, 'trian')


@pytest.mark.parametrize('name', NAMES)
def test_a_step_through_the_loader(tmp_path, builders, name):
    """A mixed batch of the normal loader, with its worker for files, trains a network whose loss is finite."""
    builders[name](tmp_path)
    data = build(name, tmp_path, parts(name)[0], allow_subset=True)
    loader = build_dataloader(data, 4, shuffle=True, num_workers=int(name == 'cub200'))
    loader.set_epoch(0)
    batches = list(loader)
    assert sum(len(batch['labels']) for batch in batches) == 9
    batch = batches[0]
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.LazyLinear(3))
    images = batch['inputs'].float() / 255
    if name in AGES:
        view = Mixup(alpha=1.0).mix(images, batch['labels'], target='regression')
        loss = (net(view.inputs)[:, :1] - view.mixture.of(batch['labels'])).abs().mean()
    else:
        view = Mixup(alpha=1.0).mix(images, batch['labels'])
        loss = torch.nn.functional.cross_entropy(net(view.inputs), view.mixture.soft(batch['labels'], 3))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())
    loader.close()


CONFIG_DIR = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
CONFIGS = {
    'agedb_224': 'agedb', 'aircraft_224': 'aircraft', 'cars_224': 'cars', 'cub200_224': 'cub200',
    'imagenet': 'imagenet', 'imdb_wiki_224': 'imdb_wiki', 'inat2017_224': 'inat2017', 'inat2018_224': 'inat2018',
    'places205_224': 'places205', 'stl10': 'stl10',
}  # fmt: skip


@pytest.mark.parametrize('name', CONFIGS)
def test_the_config_of_a_data_set_builds_it(tmp_path, builders, name):
    """The parts of the config are those of the miniature, at its size, with a preprocessor that fits."""
    from openmixup.registry import MODELS

    builders[CONFIGS[name]](tmp_path)
    config = Config.fromfile(CONFIG_DIR / f'{name}.py')
    preprocessor = MODELS.build(config['data_preprocessor'])
    for part, training in (('train', True), ('val', False), ('test', False)):
        loader = config[f'{part}_dataloader']
        assert DATASETS.get(loader['dataset']['type']).official.name == CONFIGS[name]
        data = DATASETS.build({**loader['dataset'], 'root': tmp_path, 'allow_subset': True})
        assert len(data) == 9
        side = 96 if name == 'stl10' else 224
        assert preprocessor(data.__getitems__([0, 8]), training)['inputs'].shape == (2, 3, side, side)


def test_parts_of_one_another_name(tmp_path, builders):
    builders['cub200'](tmp_path)
    builders['inat2018'](tmp_path)
    assert build('cub200', tmp_path, 'val', allow_subset=True).paths[0].name == 'test_0.jpg'
    assert build('inat2018', tmp_path, 'test', allow_subset=True).train is False


def test_aircraft_halves(tmp_path, builders):
    """The halves of trainval are theirs by name, and only training parts are cropped at random."""
    base = builders['aircraft'](tmp_path)
    found = {s: build('aircraft', base, s, allow_subset=True) for s in ('trainval', 'train', 'val', 'test')}
    assert {split: len(data) for split, data in found.items()} == {'trainval': 9, 'train': 6, 'val': 3, 'test': 9}
    assert {split: data.train for split, data in found.items()} == {
        'trainval': True, 'train': True, 'val': False, 'test': False
    }  # fmt: skip
    base.rename(tmp_path / 'planes')
    with pytest.raises(InputError, match='rename it to fgvc-aircraft-2013b'):
        build('aircraft', tmp_path / 'planes', 'test', allow_subset=True)


def test_stl10_is_read_by_columns_and_folds(tmp_path, builders):
    builders['stl10'](tmp_path)
    data = build('stl10', tmp_path, 'train', allow_subset=True)
    assert (data.images[0, 0] == 255).nonzero().tolist() == [[50, 0]]
    assert build('stl10', tmp_path, 'train', allow_subset=True, fold=1).images[:, 0, 9, 9].tolist() == [70, 40, 10]
    assert build('stl10', tmp_path, 'train', allow_subset=True, fold=0).labels.tolist() == [0, 1, 2]
    for fold, reason in ((10, 'from 0 to 9'), (1.0, 'from 0 to 9'), (2, 'has no fold 2')):
        with pytest.raises(InputError, match=reason):
            build('stl10', tmp_path, 'train', allow_subset=True, fold=fold)


@pytest.fixture
def kit(tmp_path, builders, monkeypatch):
    """ImageNet with flat validation images and a development kit of the official form, and the labels of its images."""
    base = builders['imagenet'](tmp_path)
    files = sorted((base / 'val').glob('*/*.JPEG'))
    wnids = sorted({file.parent.name for file in files})
    order = [8, 0, 4, 1, 7, 3, 2, 6, 5]
    told = [files[k].parent.name for k in order]
    for number, k in enumerate(order):
        files[k].rename(base / 'val' / f'ILSVRC2012_val_{number:08d}.JPEG')
    for folder in [path for path in (base / 'val').iterdir() if path.is_dir()]:
        folder.rmdir()
    numbers = {wnid: 3 - k for k, wnid in enumerate(wnids)}  # the kit numbers the classes in an order of its own
    fields = [('ILSVRC2012_ID', 'i4'), ('WNID', 'O'), ('words', 'O'), ('gloss', 'O'), ('num_children', 'i4')]
    rows = [(number, wnid, f'{wnid}, alias', 'gloss', 0) for wnid, number in numbers.items()]
    data = tmp_path / 'ILSVRC2012_devkit_t12' / 'data'
    data.mkdir(parents=True)
    savemat(data / 'meta.mat', {'synsets': np.array([*rows, (4, 'n00000000', 'all', 'gloss', 3)], dtype=fields)})
    (data / 'ILSVRC2012_validation_ground_truth.txt').write_text(''.join(f'{numbers[wnid]}\n' for wnid in told))
    file = base / 'ILSVRC2012_devkit_t12.tar.gz'
    with tarfile.open(file, 'w:gz') as archive:
        archive.add(data.parent, 'ILSVRC2012_devkit_t12')
    monkeypatch.setitem(imagenet.ARCHIVE_META, 'devkit', (file.name, hashlib.md5(file.read_bytes()).hexdigest()))
    return file, [wnids.index(wnid) for wnid in told]


def test_the_development_kit_of_imagenet_tells_the_classes(tmp_path, kit):
    file, labels = kit
    said = []
    read_devkit(DATASETS.get('ImageNet').official, tmp_path, said.append)
    assert said == [f'reading {file}']
    assert build('imagenet', tmp_path, 'val', allow_subset=True).labels.tolist() == labels
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, 'meta.bin', 'train', 'val']
    read_devkit(DATASETS.get('ImageNet').official, tmp_path, said.append)
    assert len(said) == 1, 'what is there is not read again'


def test_a_damaged_development_kit_is_refused(tmp_path, kit):
    file, _ = kit
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r'devkit_t12.tar.gz cannot be read .*: fetch it again from https'):
        read_devkit(DATASETS.get('ImageNet').official, tmp_path, print)
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, 'train', 'val'], 'nothing is left'


def test_imagenet_without_class_folders(tmp_path, builders, greys):
    """A flat val/ takes its classes from torchvision's meta.bin, in the order of the names, or says what to do."""
    base = builders['imagenet'](tmp_path)
    files = sorted((base / 'val').glob('*/*.JPEG'))
    wnids = [file.parent.name for file in files]
    order = [8, 0, 4, 1, 7, 3, 2, 6, 5]
    for number, k in enumerate(order):
        files[k].rename(base / 'val' / f'ILSVRC2012_val_{number:08d}.JPEG')
    for folder in [path for path in (base / 'val').iterdir() if path.is_dir()]:
        folder.rmdir()
    with pytest.raises(InputError, match='put ILSVRC2012_devkit_t12.tar.gz into .*prepare_data.py imagenet --root'):
        build('imagenet', tmp_path, 'val', allow_subset=True)
    torch.save(({wnid: (wnid,) for wnid in wnids}, [wnids[k] for k in order]), base / 'meta.bin')
    data = build('imagenet', tmp_path, 'val', allow_subset=True)
    assert data.labels.tolist() == [k // 3 for k in order]
    (base / 'val' / 'ILSVRC2012_val_00000003.JPEG').unlink()
    with pytest.raises(InputError, match='has 8 images and meta.bin knows 9'):
        build('imagenet', tmp_path, 'val', allow_subset=True)
    (base / 'meta.bin').write_bytes(b'no tensor')
    with pytest.raises(InputError, match=r'meta\.bin cannot be read'):
        build('imagenet', tmp_path, 'val', allow_subset=True)
    (base / 'train' / 'cats').mkdir()
    with pytest.raises(InputError, match="'cats', but the class folders of ImageNet-1k are named by wnids"):
        build('imagenet', tmp_path, 'train', allow_subset=True)


def test_all_classes_of_imagenet_have_their_order():
    from openmixup.datasets.imagenet import _names

    names = list(_names().items())
    assert len(names) == 1000
    assert names[0] == ('n01440764', 'tench, Tinca tinca')
    assert names[999] == ('n15075141', 'toilet tissue, toilet paper, bathroom tissue')
    assert [wnid for wnid, _ in names] == sorted(wnid for wnid, _ in names)


def test_names_of_inaturalist_2018(tmp_path, builders):
    base = builders['inat2018'](tmp_path)
    kinds = [{'id': c, 'name': f'species {c}'} for c in range(5)]
    (base / 'categories.json').write_text(json.dumps(kinds))
    assert build('inat2018', tmp_path, 'val', allow_subset=True).classes == ('species 0', 'species 1', 'species 2')


DAMAGES = {
    'cub200': {
        'images.txt': ('1 ../../../etc/passwd', 'is not below'),
        'classes.txt': ('2 one\n1 two', 'does not number its classes from 1'),
        'image_class_labels.txt': ('1 9', 'not a number from 1 to 3|say nothing of the image'),
        'train_test_split.txt': ('1 2', 'say nothing of the image'),
    },
    'aircraft': {'data/images_variant_trainval.txt': ('0000001 Boing', 'do not fit variants.txt')},
    'cars': {'devkit/cars_meta.mat': ('no matrix', r'a \.mat file cannot be read')},
    'places205': {
        'trainvalsplit_places205/train_places205.csv': ('a/abbey/x.jpg 205', 'not a number from 0 to 204'),
    },
    'inat2017': {'train2017.json': ('{', 'is no JSON')},
    'inat2018': {'train2018.json': ('{"images": [3]}', 'has not the form of its official annotations')},
    'agedb': {'agedb.csv': ('age,path,split\nold,AgeDB/x.jpg,train', "line 2: 'old' is no age")},
    'imdb_wiki': {'imdb_wiki.csv': ('age,path\n3,x.jpg', 'has not the columns age, path, split')},
    'stl10': {'train_X.bin': ('short', 'no images of 3x96x96')},
}  # fmt: skip


@pytest.mark.parametrize(('name', 'file'), [(name, file) for name, files in DAMAGES.items() for file in files])
def test_a_damaged_list_is_named(tmp_path, builders, name, file):
    base = builders[name](tmp_path)
    content, reason = DAMAGES[name][file]
    (base / file).write_text(content + '\n')
    with pytest.raises(InputError, match=reason) as caught:
        build(name, tmp_path, parts(name)[0], allow_subset=True)
    assert '\n' not in str(caught.value)


def test_no_list_leads_out_of_its_folder(tmp_path, builders):
    for name, file, line in (
        ('places205', 'trainvalsplit_places205/train_places205.csv', '../../../x.jpg 0'),
        ('agedb', 'agedb.csv', 'age,path,split\n3,/etc/passwd,train'),
        ('aircraft', 'data/images_variant_trainval.txt', '../../../../x A300B4'),
    ):
        base = builders[name](tmp_path)
        (base / file).write_text(line + '\n')
        with pytest.raises(InputError, match='is not below'):
            build(name, tmp_path, parts(name)[0], allow_subset=True)
