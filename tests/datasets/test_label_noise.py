"""Wrong labels for an exact share of each class."""

import pytest
import torch

from openmixup.datasets import (
    InMemoryDataset,
    label_noise,
)
from openmixup.datasets.label_noise import CIFAR100_SUPERCLASSES
from openmixup.errors import InputError
from tests.datasets.conftest import numbered, sizes

CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


def transitions(dataset) -> torch.Tensor:
    """(C, C) counts of clean labels (rows) and labels (columns)."""
    count = dataset.num_classes
    return torch.bincount(dataset.clean_labels * count + dataset.labels, minlength=count**2).view(count, count)


def test_symmetric_noise_changes_the_exact_share_to_each_other_class():
    base = numbered(*[3000] * 4)
    made = label_noise(base, 0.4, seed=2)
    table = transitions(made)
    assert table.diagonal().tolist() == [1800] * 4
    others = table[~torch.eye(4, dtype=torch.bool)]
    assert int(others.sum()) == 4 * 1200
    assert bool(((others - 400).abs() < 5 * (1200 * 2 / 9) ** 0.5).all()), 'uniform over the three others'
    assert torch.equal(made.clean_labels, base.labels)
    assert made.images is base.images, 'images are shared'
    assert sizes(base) == [3000] * 4, 'the original stays as it is'


def test_the_share_is_rounded_in_each_class():
    table = transitions(label_noise(numbered(10, 7, 1), 0.25))
    assert (table.sum(1) - table.diagonal()).tolist() == [3, 2, 0]
    assert torch.equal(label_noise(numbered(4, 4), 0).labels, numbered(4, 4).labels)
    table = transitions(label_noise(numbered(4, 4), 1))
    assert table.tolist() == [[0, 4], [4, 0]]


def test_a_higher_rate_changes_the_same_images_alike_and_more():
    base = numbered(100, 100, 100)
    few, many = label_noise(base, 0.2), label_noise(base, 0.5)
    wrong = few.labels != base.labels
    assert int(wrong.sum()) == 60
    assert torch.equal(few.labels[wrong], many.labels[wrong])


def test_the_map_of_cifar10():
    made = label_noise(numbered(*[50] * 10, classes=CIFAR10), 0.4, 'asymmetric', 'cifar10')
    expected = torch.diag(torch.full((10,), 50))
    pairs = {'truck': 'automobile', 'bird': 'airplane', 'deer': 'horse', 'cat': 'dog', 'dog': 'cat'}
    for own, other in pairs.items():
        expected[CIFAR10.index(own), CIFAR10.index(own)] = 30
        expected[CIFAR10.index(own), CIFAR10.index(other)] = 20
    assert torch.equal(transitions(made), expected)


def test_the_map_of_cifar100_stays_in_the_superclass():
    names = sorted(' '.join(CIFAR100_SUPERCLASSES.values()).split())
    assert len(set(names)) == 100
    table = transitions(label_noise(numbered(*[10] * 100, classes=names), 0.3, 'asymmetric', 'cifar100'))
    assert bool((table.diagonal() == 7).all())
    away = (table - torch.diag(table.diagonal())).nonzero().tolist()
    assert len(away) == 100
    assert sorted(own for own, _ in away) == sorted(other for _, other in away)
    following = {names[own]: names[other] for own, other in away}
    walk = ['dolphin']
    while following[walk[-1]] != 'dolphin':
        walk.append(following[walk[-1]])
    assert walk == ['dolphin', 'otter', 'seal', 'whale', 'beaver']
    assert following['willow_tree'] == 'maple_tree'
    assert following['streetcar'] == 'tank'


def test_given_maps_and_pair_flip():
    base = numbered(10, 10, 10, classes=['x', 'y', 'z'])
    assert transitions(label_noise(base, 0.5, 'asymmetric', {'x': 'z', 1: 0})).tolist() == [
        [5, 0, 5], [5, 5, 0], [0, 0, 10]
    ]  # fmt: skip
    assert transitions(label_noise(base, 0.4, 'asymmetric', 'next')).tolist() == [[6, 4, 0], [0, 6, 4], [4, 0, 6]]


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        ((1.5,), 'from 0 to 1'),
        ((0.2, 'symetric'), "did you mean 'symmetric'"),
        ((0.2, 'symmetric', 'next'), 'takes no mapping'),
        ((0.2, 'asymmetric'), 'needs a mapping'),
        ((0.2, 'asymmetric', 'cifar10'), "'truck' is not one of the 3 classes"),
        ((0.2, 'asymmetric', 'cifar'), "did you mean 'cifar10'"),
        ((0.2, 'asymmetric', {0: 0}), 'itself'),
        ((0.2, 'asymmetric', {0: 3}), '3 is not one of the 3 classes'),
        ((0.2, 'asymmetric', {}), 'expected a name'),
    ],
)
def test_noise_refuses(arguments, says):
    with pytest.raises(InputError, match=says):
        label_noise(numbered(5, 5, 5), *arguments)


def test_clean_labels_move_with_the_data():
    data = InMemoryDataset(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]), classes=('a', 'b'))
    noisy = label_noise(data, rate=0.5).to('meta')
    assert noisy.clean_labels.device.type == noisy.labels.device.type == 'meta'
