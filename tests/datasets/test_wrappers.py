"""Subsets, long tails, balance and wrong labels around data in memory and in files."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.datasets import (
    Digits,
    ImageFolder,
    InMemoryDataset,
    build_dataloader,
    class_balanced,
    label_noise,
    long_tail,
    subset,
)
from openmixup.errors import InputError
from openmixup.registry import DATASETS
from tests.datasets.conftest import numbered, sizes


def numbers(dataset) -> torch.Tensor:
    """Which images of :func:`numbered` a data set has."""
    images = dataset.images[..., 0, 0].long()
    return images @ torch.tensor([65536, 256, 1])


@pytest.fixture
def folder(tmp_path):
    """Class folders a (6 images), b (4), c (2); every image of one colour that is its number."""
    number = 0
    for name, count in (('a', 6), ('b', 4), ('c', 2)):
        (tmp_path / name).mkdir()
        for i in range(count):
            picture = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f'{i}.png')
            number += 1
    return tmp_path


def files(folder, **more) -> ImageFolder:
    return ImageFolder(folder, split='all', size=8, val_fraction=0.0, **more)


# Subset


def test_a_subset_is_that_of_the_low_data_protocol():
    base = Digits()
    for seed in (0, 7):
        own, wrapped = Digits(per_class=9, subset_seed=seed), subset(base, per_class=9, seed=seed)
        assert torch.equal(own.images, wrapped.images)
        assert torch.equal(own.labels, wrapped.labels)
    assert type(wrapped) is Digits
    assert len(base) == 1000, 'the original stays as it is'
    assert wrapped.classes == base.classes
    assert wrapped.num_classes == 10
    assert wrapped.image_shape == (1, 8, 8)


def test_a_share_of_each_class_and_of_a_regression():
    assert sizes(subset(numbered(40, 10, 1), fraction=0.25)) == [10, 3, 1]
    values = InMemoryDataset(torch.zeros(40, 1, 2, 2, dtype=torch.uint8), torch.arange(40.0), target='regression')
    part = subset(values, fraction=0.25)
    assert len(part) == len(part.labels.unique()) == 10
    assert part.labels.flatten().tolist() == sorted(part.labels.flatten().tolist())


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        ({}, 'give one of them'),
        ({'per_class': 2, 'fraction': 0.5}, 'give one of them'),
        ({'per_class': 3}, "class '2' has 2 samples"),
        ({'per_class': True}, 'whole number'),
        ({'per_class': 0}, 'whole number'),
        ({'fraction': 0}, 'above 0'),
        ({'fraction': 1.5}, 'above 0'),
    ],
)
def test_a_subset_refuses(arguments, says):
    with pytest.raises(InputError, match=says):
        subset(numbered(5, 5, 2), **arguments)


# LongTail


@pytest.mark.parametrize(
    ('classes', 'size', 'factor', 'total', 'tail'),
    [
        (10, 5000, 10, 20431, 500),
        (10, 5000, 50, 13996, 100),
        (10, 5000, 100, 12406, 50),
        (100, 500, 10, 19573, 50),
        (100, 500, 50, 12608, 10),
        (100, 500, 100, 10847, 5),
    ],
)
def test_long_tails_have_the_published_sizes(classes, size, factor, total, tail):
    made = sizes(long_tail(numbered(*[size] * classes), factor))
    assert (sum(made), made[0], made[-1]) == (total, size, tail)
    assert made == sorted(made, reverse=True)


def test_cifar10_lt_class_by_class():
    made = long_tail(numbered(*[5000] * 10), 100)
    assert sizes(made) == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert len(numbers(made).unique()) == 12406, 'no image twice'
    assert torch.equal(numbered(*[5000] * 10).labels[numbers(made)], made.labels), 'each with its own label'


def test_a_smaller_factor_keeps_the_same_images_and_others_come_with_another_seed():
    base = numbered(*[200] * 5)
    few, many = (set(numbers(long_tail(base, factor)).tolist()) for factor in (50, 5))
    assert few < many
    assert set(numbers(long_tail(base, 50, seed=1)).tolist()) != few


def test_the_order_of_the_classes():
    base = numbered(60, 60, 60, classes=['x', 'y', 'z'])
    assert sizes(long_tail(base, 4)) == [60, 30, 15]
    assert sizes(long_tail(base, 4, order=['y', 'z', 'x'])) == [15, 60, 30]
    assert sizes(long_tail(base, 4, order=[2, 0, 1])) == [30, 15, 60]
    drawn = {tuple(sizes(long_tail(base, 4, order='shuffled', seed=seed))) for seed in range(20)}
    assert len(drawn) > 3
    assert all(sorted(each) == [15, 30, 60] for each in drawn)


def test_unequal_classes_keep_the_exact_profile():
    assert sizes(long_tail(numbered(30, 100, 100), 4)) == [30, 15, 7]
    assert sizes(long_tail(numbered(100, 20, 100), 4)) == [40, 20, 10]
    assert sizes(long_tail(numbered(7, 9), 1)) == [7, 7]


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        ({'factor': 0.5}, 'at least 1'),
        ({'factor': True}, 'at least 1'),
        ({'factor': 1000}, "no sample of class '2'"),
        ({'order': [0, 1]}, '3 classes once'),
        ({'order': [0, 1, 1]}, '3 classes once'),
        ({'order': 'shufled'}, "did you mean 'shuffled'"),
    ],
)
def test_a_long_tail_refuses(arguments, says):
    with pytest.raises(InputError, match=says):
        long_tail(numbered(50, 50, 50), **arguments)


# ClassBalanced


def test_balance_makes_classes_equal_and_loses_nothing():
    made = class_balanced(numbered(10, 4, 3))
    assert sizes(made) == [10, 10, 10]
    times = Counter(numbers(made).tolist())
    assert len(times) == 17
    by_class = {
        label: sorted(times[n] for n in numbers(made)[made.labels == label].unique().tolist()) for label in (0, 1, 2)
    }
    assert by_class == {0: [1] * 10, 1: [2, 2, 3, 3], 2: [3, 3, 4]}


def test_square_root_sampling_and_none():
    base = numbered(100, 25, 4)
    assert sizes(class_balanced(base, 0.5)) == [100, 50, 20]
    assert torch.equal(numbers(class_balanced(base, 1)), numbers(base))
    with pytest.raises(InputError, match='from 0 to 1'):
        class_balanced(base, 1.5)


# LabelNoise


# All of them


def test_wrappers_nest_in_a_config_and_keep_clean_labels():
    config = {'type': 'Digits', 'split': 'train'}
    config = {'type': 'LabelNoise', 'rate': 0.5, 'dataset': {'type': 'LongTail', 'factor': 9, 'dataset': config}}
    noisy = DATASETS.build(config)
    base = long_tail(Digits(), 9)
    assert torch.equal(noisy.images, base.images)
    assert torch.equal(noisy.clean_labels, base.labels)
    part = class_balanced(subset(noisy, fraction=0.5))
    assert len(part.clean_labels) == len(part.labels) == len(part)
    assert len(set(sizes(part))) == 1
    twice = label_noise(noisy, 0.5, seed=1)
    assert torch.equal(twice.clean_labels, base.labels), 'clean is what it was in the beginning'
    assert len(twice.changes) == 3


@pytest.mark.parametrize('wrapper', ['LongTail', 'ClassBalanced', 'LabelNoise'])
def test_a_regression_is_refused(wrapper):
    values = InMemoryDataset(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.rand(4), target='regression')
    with pytest.raises(InputError, match=f'{wrapper} needs classes'):
        DATASETS.build({'type': wrapper, 'dataset': values, **({'rate': 0.1} if wrapper == 'LabelNoise' else {})})


def test_other_data_sets_are_refused():
    with pytest.raises(InputError, match='cannot stand around TensorDataset'):
        long_tail(torch.utils.data.TensorDataset(torch.zeros(3)))


def test_files_are_chosen_and_relabelled(folder):
    base = files(folder)
    made = long_tail(base, 4, seed=5)
    assert type(made) is ImageFolder
    assert sizes(made) == [6, 3, 1]
    assert all(path.parent.name == made.classes[label] for path, label in zip(made.paths, made.labels, strict=True))
    assert len(base) == 12
    assert len(base.paths) == 12
    noisy = label_noise(made, 1.0, 'asymmetric', 'next')
    assert [sample['labels'].item() for sample in noisy] == ((made.labels + 1) % 3).tolist()
    assert torch.equal(noisy.clean_labels, made.labels)


def test_copies_of_a_file_are_cropped_apart_and_follow_the_epoch(folder):
    made = class_balanced(files(folder, crop={'random': True, 'scale': (0.1, 0.5)}))
    assert sizes(made) == [6, 6, 6]
    copies = [i for i, path in enumerate(made.paths) if path == made.paths[-1]]
    assert len(copies) == 3
    first = made.__getitems__(copies)['inputs']
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])
    made.set_epoch(1)
    assert not torch.equal(made.__getitems__(copies)['inputs'], first)
    made.set_epoch(0)
    assert torch.equal(made.__getitems__(copies)['inputs'], first)


def test_an_unreadable_file_is_replaced_within_the_subset(folder):
    made = label_noise(
        subset(files(folder, on_error='skip', bad_image_budget=0.5), per_class=1), 1.0, 'asymmetric', 'next'
    )
    assert made.bad_images.budget == 1, 'a share counts the files that are left'
    made.paths[0].write_bytes(b'no image')
    with pytest.warns(RuntimeWarning, match='skipped'):
        sample = made[0]
    assert torch.equal(sample['inputs'], made.crop(*_read(made, 1, 0)))
    assert sample['labels'] == made.labels[1] == 2, 'the wrong label of the file that came in'


def _read(made, place, index):
    from openmixup.datasets.decode import read_image
    from openmixup.randomness import keyed_generator

    return read_image(made.paths[place]), keyed_generator(made.seed, 'crop', 0, index)


def test_the_draws_are_the_same_in_another_process():
    code = (
        'from openmixup.registry import DATASETS\n'
        "c = {'type': 'LongTail', 'factor': 20, 'order': 'shuffled', 'dataset': {'type': 'Digits'}}\n"
        "c = {'type': 'LabelNoise', 'rate': 0.3, 'dataset': c}\n"
        "d = DATASETS.build({'type': 'ClassBalanced', 'power': 0.5, 'dataset': c})\n"
        'import hashlib\n'
        'print(hashlib.sha256(d.images.numpy().tobytes() + d.labels.numpy().tobytes()).hexdigest())\n'
    )
    torch.manual_seed(12345)
    state = torch.get_rng_state()
    here = {}
    exec(code, {'print': lambda text: here.setdefault('digest', text)})
    assert torch.equal(torch.get_rng_state(), state), 'no global random state is touched'
    there = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == here['digest']


def test_the_loader_counts_the_wrapped_samples(folder):
    for made in (class_balanced(files(folder)), class_balanced(numbered(6, 4, 2))):
        loader = build_dataloader(made, 4, shuffle=True, seed=1)
        seen = torch.cat([batch['labels'] for batch in loader])
        assert torch.bincount(seen).tolist() == [6, 6, 6]


def test_mistakes_that_need_another_remedy():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    few = InMemoryDataset(images, torch.tensor([0, 0, 2, 2]), classes=('a', 'b', 'c'))
    with pytest.raises(InputError, match="LongTail: class 'b' has no sample: leave it out"):
        long_tail(few, factor=1)
    with pytest.raises(InputError, match="fraction='0.1'.*: expected a share"):
        subset(few, fraction='0.1')
    two = InMemoryDataset(images, torch.tensor([0, 0, 1, 1]), classes=('a', 'b'))
    with pytest.raises(InputError, match='expected each of the 2 classes once'):
        long_tail(two, order=['1', '0'])
    ages = InMemoryDataset(images, torch.rand(4), target='regression')
    with pytest.raises(InputError, match=r'regression targets: give fraction=0\.1'):
        subset(ages, per_class=1)
