"""Published data sets in miniature: each in its official layout, with three images a class and part."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.datasets import InMemoryDataset

CLASSES, COUNT = 3, 3
WNIDS = ('n01440764', 'n01443537', 'n01484850')


def picture(path: Path, value: int) -> Path:
    """An image all of one grey, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 48, 3), value, dtype=np.uint8)).save(path, quality=95)
    return path


def write(path: Path, lines) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}\n' for line in lines))


def numbers():
    """(part, class, number, grey) of each image; the first part is that of training."""
    for p, part in enumerate(('train', 'test')):
        for c in range(CLASSES):
            for i in range(COUNT):
                yield part, c, i, 100 * p + 30 * c + 5 * i


def cub200(root: Path) -> Path:
    base = root / 'CUB_200_2011'
    names = ['001.Black_footed_Albatross', '002.Laysan_Albatross', '003.Sooty_Albatross']
    images, labels, parts = [], [], []
    for number, (part, c, i, grey) in enumerate(sorted(numbers(), key=lambda n: n[1]), 1):
        name = f'{names[c]}/{part}_{i}.jpg'
        picture(base / 'images' / name, grey)
        images.append(f'{number} {name}')
        labels.append(f'{number} {c + 1}')
        parts.append(f'{number} {int(part == "train")}')
    write(base / 'images.txt', images)
    write(base / 'image_class_labels.txt', labels)
    write(base / 'train_test_split.txt', parts)
    write(base / 'classes.txt', [f'{c + 1} {name}' for c, name in enumerate(names)])
    return base


def aircraft(root: Path) -> Path:
    base = root / 'fgvc-aircraft-2013b'
    names = ['707-320', 'Cessna 172', 'A300B4']  # in the order of the list, which is not sorted
    lists = {'trainval': [], 'test': [], 'train': [], 'val': []}
    for number, (part, c, i, grey) in enumerate(numbers()):
        picture(base / 'data/images' / f'{number:07d}.jpg', grey)
        for name in ('test',) if part == 'test' else ('trainval', 'val' if i == 0 else 'train'):
            lists[name].append(f'{number:07d} {names[c]}')
    for name, lines in lists.items():
        write(base / f'data/images_variant_{name}.txt', lines)
    write(base / 'data/variants.txt', names)
    return base


def cars(root: Path) -> Path:
    from scipy.io import savemat

    base = root / 'stanford_cars'
    names = ['AM General Hummer SUV 2000', 'Acura RL Sedan 2012', 'Acura TL Sedan 2012']
    kind = [('fname', object), ('class', object)]
    (base / 'devkit').mkdir(parents=True)
    savemat(base / 'devkit/cars_meta.mat', {'class_names': np.array(names, dtype=object)})
    for part, file in (('train', 'devkit/cars_train_annos.mat'), ('test', 'cars_test_annos_withlabels.mat')):
        rows = [(f'{c}{i}.jpg', c + 1) for p, c, i, _ in numbers() if p == part]
        savemat(base / file, {'annotations': np.array(rows, dtype=kind)})
    for part, c, i, grey in numbers():
        picture(base / f'cars_{part}' / f'{c}{i}.jpg', grey)
    return base


def places205(root: Path) -> Path:
    base = root / 'places205'
    names = ['a/abbey', 'a/airport_terminal', 'a/alley']
    lists = {'train': [], 'test': []}
    for part, c, i, grey in numbers():
        name = f'{names[c]}/gsun_{part}{i}.jpg'
        picture(base / 'data/vision/torralba/deeplearning/images256' / name, grey)
        lists[part].append(f'{name} {c}')
    write(base / 'trainvalsplit_places205/train_places205.csv', lists['train'])
    write(base / 'trainvalsplit_places205/val_places205.csv', lists['test'])
    return base


def inaturalist(root: Path, year: str, folder: str) -> Path:
    base = root / f'inat{year}'
    kinds = [{'id': c, 'name': ('Abaeis nicippe', 'Abies alba', 'Zea mays')[c]} for c in (2, 0, 1)]
    for split, wanted in (('train', 'train'), ('val', 'test')):
        images, notes = [], []
        for number, (part, c, i, grey) in enumerate(numbers()):
            if part == wanted:
                name = f'{folder}/Insecta/{c}/{part}{i}.jpg'
                picture(base / name, grey)
                images.append({'id': 70 + number, 'file_name': name})
                notes.insert(0, {'id': number, 'image_id': 70 + number, 'category_id': c})
        content = {'images': images, 'annotations': notes, 'categories': kinds}
        (base / f'{split}{year}.json').write_text(json.dumps(content))
    return base


def imagenet(root: Path) -> Path:
    base = root / 'imagenet'
    for part, c, i, grey in numbers():
        picture(base / {'train': 'train', 'test': 'val'}[part] / WNIDS[c] / f'{WNIDS[c]}_{i}.JPEG', grey)
    return base


def tiny_imagenet(root: Path) -> Path:
    base = root / 'tiny-imagenet-200'
    notes = []
    for part, c, i, grey in numbers():
        image = Image.fromarray(np.full((64, 64, 3), grey, dtype=np.uint8))
        name = f'val_{c}{i}.JPEG' if part == 'test' else f'{WNIDS[c]}_{i}.JPEG'
        folder = base / ('val/images' if part == 'test' else f'train/{WNIDS[c]}/images')
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / name, 'JPEG', quality=95)
        notes += [f'{name}\t{WNIDS[c]}\t0\t0\t9\t9'] if part == 'test' else []
    write(base / 'val/val_annotations.txt', notes)
    write(base / 'wnids.txt', WNIDS)
    write(base / 'words.txt', [f'{wnid}\tname{c}' for c, wnid in enumerate(WNIDS)])
    return base


def ages(root: Path, name: str, folders: tuple[str, ...]) -> Path:
    base = root / name
    rows = ['age,path,split']
    for split, part in (('train', 'train'), ('val', 'test'), ('test', 'test')):
        for p, c, i, grey in numbers():
            if p == part:
                file = f'{folders[i % len(folders)]}/{split}_{c}{i}.jpg'
                picture(base / file, grey)
                rows.append(f'{20 * c + i},{file},{split}')
    write(base / f'{name}.csv', rows)
    return base


def stl10(root: Path) -> Path:
    base = root / 'stl10_binary'
    base.mkdir(parents=True)
    for part in ('train', 'test'):
        chosen = [(c, grey) for p, c, _, grey in numbers() if p == part]
        images = np.stack([np.full((3, 96, 96), grey, dtype=np.uint8) for _, grey in chosen])
        images[:, :, 0, 50] = 255  # in the file (column, row): of each image the first column, row 50
        (base / f'{part}_X.bin').write_bytes(images.tobytes())
        (base / f'{part}_y.bin').write_bytes(bytes(c + 1 for c, _ in chosen))
    write(base / 'class_names.txt', ['airplane', 'bird', 'car'])
    write(base / 'fold_indices.txt', ['0 3 6', '8 5 2'])
    return base


def cifar(root: Path, fine: bool = False) -> Path:
    base = root / ('cifar-100-python' if fine else 'cifar-10-batches-py')
    base.mkdir(parents=True)
    files = {'train': ('train',), 'test': ('test',)} if fine else {
        'train': tuple(f'data_batch_{i}' for i in range(1, 6)), 'test': ('test_batch',)
    }  # fmt: skip
    key = b'fine_labels' if fine else b'labels'
    for part, names in files.items():
        chosen = [(c, grey) for p, c, _, grey in numbers() if p == part]
        for k, name in enumerate(names):
            rows = chosen[k :: len(names)]
            data = np.stack([np.full(3072, grey, dtype=np.uint8) for _, grey in rows])
            (base / name).write_bytes(pickle.dumps({b'data': data, key: [c for c, _ in rows]}, protocol=2))
    meta = {b'fine_label_names' if fine else b'label_names': [b'apple', b'aquarium_fish', b'baby']}
    (base / ('meta' if fine else 'batches.meta')).write_bytes(pickle.dumps(meta, protocol=2))
    return base


def fashion_mnist(root: Path) -> Path:
    import struct

    root.mkdir(parents=True, exist_ok=True)
    for part, stem in (('train', 'train'), ('test', 't10k')):
        chosen = [(c, grey) for p, c, _, grey in numbers() if p == part]
        images = np.stack([np.full((28, 28), grey, dtype=np.uint8) for _, grey in chosen])
        for name, array in (
            ('images-idx3', images), ('labels-idx1', np.array([c for c, _ in chosen], dtype=np.uint8))
        ):  # fmt: skip
            head = b'\0\0\x08' + bytes([array.ndim]) + struct.pack(f'>{array.ndim}I', *array.shape)
            (root / f'{stem}-{name}-ubyte').write_bytes(head + array.tobytes())
    return root


BUILDERS = {
    'agedb': lambda root: ages(root, 'agedb', ('AgeDB',)),
    'aircraft': aircraft,
    'cars': cars,
    'cifar10': cifar,
    'cifar100': lambda root: cifar(root, fine=True),
    'cub200': cub200,
    'fashion_mnist': fashion_mnist,
    'imagenet': imagenet,
    'imdb_wiki': lambda root: ages(root, 'imdb_wiki', ('imdb_crop/01', 'wiki_crop/01')),
    'inat2017': lambda root: inaturalist(root, '2017', 'train_val_images'),
    'inat2018': lambda root: inaturalist(root, '2018', 'train_val2018'),
    'places205': places205,
    'stl10': stl10,
    'tiny_imagenet': tiny_imagenet,
}


@pytest.fixture(scope='session')
def builders():
    """A function for each published data set: it makes the miniature below a root and returns its folder."""
    return BUILDERS


@pytest.fixture
def greys():
    """Grey and class of each image of a part: ``greys('train')``; 'test' for the held-out one."""
    return lambda part: [(grey, c) for p, c, _, grey in numbers() if p == part]


def numbered(*sizes: int, classes=None) -> InMemoryDataset:
    """Classes in turn mixed up; each image holds its own number in its three bytes."""
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]
    number = torch.arange(len(labels))
    images = torch.stack([number >> 16, number >> 8 & 255, number & 255], 1).to(torch.uint8)[..., None, None]
    return InMemoryDataset(images, labels, classes)


def sizes(dataset) -> list[int]:
    return torch.bincount(dataset.labels, minlength=dataset.num_classes).tolist()
