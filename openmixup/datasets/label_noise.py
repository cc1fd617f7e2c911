"""A wrapper that makes some labels wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from openmixup.checks import is_number, is_whole
from openmixup.datasets.checks import check_choice
from openmixup.datasets.selection import Selectable, build_inner, members_of
from openmixup.errors import InputError, did_you_mean
from openmixup.randomness import keyed_generator
from openmixup.registry import DATASETS

__all__ = ['CIFAR100_SUPERCLASSES', 'label_noise']

CIFAR10_PAIRS = {
    'truck': 'automobile', 'bird': 'airplane', 'deer': 'horse', 'cat': 'dog', 'dog': 'cat',
}  # fmt: skip
CIFAR100_SUPERCLASSES = {
    'aquatic_mammals': 'beaver dolphin otter seal whale',
    'fish': 'aquarium_fish flatfish ray shark trout',
    'flowers': 'orchid poppy rose sunflower tulip',
    'food_containers': 'bottle bowl can cup plate',
    'fruit_and_vegetables': 'apple mushroom orange pear sweet_pepper',
    'household_electrical_devices': 'clock keyboard lamp telephone television',
    'household_furniture': 'bed chair couch table wardrobe',
    'insects': 'bee beetle butterfly caterpillar cockroach',
    'large_carnivores': 'bear leopard lion tiger wolf',
    'large_man-made_outdoor_things': 'bridge castle house road skyscraper',
    'large_natural_outdoor_scenes': 'cloud forest mountain plain sea',
    'large_omnivores_and_herbivores': 'camel cattle chimpanzee elephant kangaroo',
    'medium_mammals': 'fox porcupine possum raccoon skunk',
    'non-insect_invertebrates': 'crab lobster snail spider worm',
    'people': 'baby boy girl man woman',
    'reptiles': 'crocodile dinosaur lizard snake turtle',
    'small_mammals': 'hamster mouse rabbit shrew squirrel',
    'trees': 'maple_tree oak_tree palm_tree pine_tree willow_tree',
    'vehicles_1': 'bicycle bus motorcycle pickup_truck train',
    'vehicles_2': 'lawn_mower rocket streetcar tank tractor',
}


@DATASETS.register_module(name='LabelNoise')
def label_noise(
    dataset: Mapping[str, Any] | Selectable,
    rate: float,
    kind: str = 'symmetric',
    mapping: str | Mapping[int | str, int | str] | None = None,
    seed: int = 0,
) -> Selectable:
    """Wrong labels for a share of each class; the right ones stay in ``clean_labels``.

    Of a class with n samples exactly ``rate * n``, rounded, are changed (it is not drawn for each sample), so that the
    rate of a run is what it says. Symmetric noise gives each of them one of the other classes, all equally probable.
    Where a paper draws from all C classes, the own one included, its rate r is a ``rate`` of r * (1 - 1/C) here. A
    higher rate with the same seed changes the same samples in the same way, and further ones.

    The data set stays of its class. ``dataset.clean_labels != dataset.labels`` tells which labels are wrong. Evaluation
    data may be wrapped too, which the log of a run says.

    Source: the two kinds and the map of CIFAR-10 are those of Patrini et al., "Making Deep Neural Networks Robust to
    Label Noise", CVPR 2017.

    Args:
        dataset: config of a data set, or one that is built.
        rate: share of each class, from 0 to 1; for asymmetric noise of each class that the mapping names.
        kind: 'symmetric' or 'asymmetric'.
        mapping: for asymmetric noise, the class that each takes wrongly, as ``{class: class}`` of numbers or names;
            classes that it leaves out stay right. Or one of 'cifar10' (truck to automobile, bird to airplane, deer to
            horse, cat to dog and back), 'cifar100' (the next class of the same superclass, by number, the last one the
            first) and 'next' (the next class by number, the last one the first).
        seed: seed of the draws.

    Returns:
        A data set of the same class as ``dataset``.

    Raises:
        InputError: a rate or kind that is none, a mapping that does not fit the classes, or data without classes.
    """
    built = build_inner(dataset, 'LabelNoise')
    check_choice('LabelNoise.kind', kind, ('symmetric', 'asymmetric'))
    if not is_number(rate, 0, 1):
        raise InputError(f'LabelNoise(rate={rate!r}): expected a share from 0 to 1.')
    if (mapping is None) != (kind == 'symmetric'):
        need = "takes no mapping: leave it out, or say kind='asymmetric'"
        need = need if kind == 'symmetric' else "needs a mapping, such as 'cifar10', 'next' or {'cat': 'dog'}"
        raise InputError(f'LabelNoise(kind={kind!r}, mapping={mapping!r}): {kind} noise {need}.')
    classes = len(built.classes)
    if classes < 2:
        raise InputError(f'LabelNoise needs two classes or more, but {type(built).__name__} has {classes}.')
    wrong_of = None if mapping is None else _numbers(mapping, built.classes)
    labels = built.labels.cpu().clone()
    for label in range(classes) if wrong_of is None else sorted(wrong_of):
        members = members_of(built.labels, label)
        rng = keyed_generator(seed, 'noise', label)
        order = torch.randperm(len(members), generator=rng)
        wrong = torch.randint(classes - 1, (len(members),), generator=rng)
        wrong = wrong + (wrong >= label) if wrong_of is None else torch.full_like(wrong, wrong_of[label])
        count = math.floor(rate * len(members) + 0.5)
        labels[members[order[:count]]] = wrong[:count]
    return built.relabelled(labels, f'LabelNoise, {kind}, rate {rate:g}')


def _numbers(mapping: str | Mapping[int | str, int | str], classes: tuple[str, ...]) -> dict[int, int]:
    """The wrong class of each class, by number."""
    if mapping == 'next':
        return {label: (label + 1) % len(classes) for label in range(len(classes))}
    named: Mapping[Any, Any]
    if isinstance(mapping, str):
        check_choice('LabelNoise.mapping', mapping, ('cifar10', 'cifar100', 'next'))
        named = CIFAR10_PAIRS if mapping == 'cifar10' else _within_superclasses()
    elif isinstance(mapping, Mapping) and mapping:
        named = mapping
    else:
        raise InputError(f"LabelNoise(mapping={mapping!r}): expected a name or {{class: class}}, as {{'cat': 'dog'}}.")
    pairs = {_number(own, classes, mapping): _number(other, classes, mapping) for own, other in named.items()}
    for own, other in pairs.items():
        if own == other:
            raise InputError(f'LabelNoise(mapping=...): class {classes[own]!r} is mapped to itself: leave it out.')
    return pairs


def _within_superclasses() -> dict[str, str]:
    pairs: dict[str, str] = {}
    for names in map(str.split, CIFAR100_SUPERCLASSES.values()):
        pairs |= dict(zip(names, names[1:] + names[:1], strict=True))
    return pairs


def _number(name: int | str, classes: tuple[str, ...], mapping: object) -> int:
    if isinstance(name, str) and name in classes:
        return classes.index(name)
    if is_whole(name, 0, len(classes) - 1):
        return name
    where = f'mapping={mapping!r}' if isinstance(mapping, str) else 'mapping=...'
    raise InputError(
        f'LabelNoise({where}): {name!r} is not one of the {len(classes)} classes{did_you_mean(str(name), classes)}.'
    )
