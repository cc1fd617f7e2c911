"""Wrappers that take some of the samples of a data set, or some of them more often."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.datasets.selection import Selectable, build_inner, members_of, per_class_index
from openmixup.errors import InputError, did_you_mean
from openmixup.randomness import keyed_generator
from openmixup.registry import DATASETS

__all__ = ['class_balanced', 'long_tail', 'subset']


@DATASETS.register_module(name='Subset')
def subset(
    dataset: Mapping[str, Any] | Selectable, per_class: int | None = None, fraction: float | None = None, seed: int = 0
) -> Selectable:
    """Some samples of each class, drawn at random but fixed by ``seed``: the low-data protocol for any data set.

    ``per_class`` takes the same samples as the argument of that name of data sets in memory, with its ``subset_seed``.

    Args:
        dataset: config of a data set, or one that is built.
        per_class: samples of each class.
        fraction: in place of it the share of each class, above 0 to 1, rounded, at least one sample; of a regression
            the share of all samples.
        seed: seed of the draw.

    Returns:
        A data set of the same class as ``dataset``.

    Raises:
        InputError: neither or both shares are given, or a class has too few samples.
    """
    built = build_inner(dataset, 'Subset', classes=per_class is not None)
    if (per_class is None) == (fraction is None):
        raise InputError(
            f'Subset(per_class={per_class!r}, fraction={fraction!r}): give one of them, such as per_class=100.'
        )
    if fraction is not None and not (is_number(fraction) and 0 < fraction <= 1):
        raise InputError(f'Subset(fraction={fraction!r}): expected a share above 0 to 1.')
    if fraction is not None and built.labels.is_floating_point():
        order = torch.randperm(len(built.labels), generator=keyed_generator(seed, 'subset'))
        index = order[: _share(fraction, len(order))].sort().values
        return built.select(index, f'Subset of {fraction:g} of the samples')
    sizes = _sizes(built)
    if per_class is not None:
        if not is_whole(per_class, 1):
            raise InputError(f'Subset(per_class={per_class!r}): expected a whole number of at least 1.')
        least = min(range(len(sizes)), key=sizes.__getitem__)
        if sizes[least] < per_class:
            raise InputError(
                f'Subset(per_class={per_class}): class {built.classes[least]!r} has {sizes[least]} samples; give a '
                'smaller number.'
            )
        counts, change = [per_class] * len(sizes), f'Subset of {per_class} samples a class'
    else:
        assert fraction is not None
        counts, change = [_share(fraction, size) for size in sizes], f'Subset of {fraction:g} of each class'
    return built.select(per_class_index(built.labels, counts, seed), change)


def _share(fraction: float, size: int) -> int:
    """``fraction`` of ``size`` samples, rounded, at least one where there is one."""
    return min(size, max(1, math.floor(fraction * size + 0.5)))


def _sizes(dataset: Selectable) -> list[int]:
    """Number of samples of each class."""
    return torch.bincount(dataset.labels.cpu(), minlength=len(dataset.classes)).tolist()


@DATASETS.register_module(name='LongTail')
def long_tail(
    dataset: Mapping[str, Any] | Selectable,
    factor: float = 100,
    order: str | Sequence[int | str] | None = None,
    seed: int = 0,
) -> Selectable:
    r"""Classes of exponentially falling size: class number c of C keeps :math:`n\,f^{-c/(C-1)}` samples, rounded down.

    :math:`n` is the largest number for which all classes have enough samples: of a balanced set the size of a class.
    Of balanced data each class keeps with a smaller factor and the same seed the same samples and further ones.

    CIFAR-10 with factor 100 keeps 5000, 2997, 1796, 1077, 645, 387, 232, 139, 83 and 50 images (12,406), CIFAR-100
    10,847. Wrap the training data only: long-tailed training is evaluated on balanced data.

    Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019. Which
    images a class keeps is drawn here by key, so that they are others than with the authors' code.

    Args:
        dataset: config of a data set, or one that is built.
        factor: :math:`f`, size of the first class divided by that of the last one, at least 1.
        order: classes from the largest to the smallest, as numbers or names; 'shuffled' for an order drawn by ``seed``;
            None for the order of their numbers.
        seed: seed of the draws.

    Returns:
        A data set of the same class as ``dataset``.

    Raises:
        InputError: a factor below 1, an order that does not name each class once, a single class, or one left empty.
    """
    built = build_inner(dataset, 'LongTail')
    if not is_number(factor, 1):
        raise InputError(f'LongTail(factor={factor!r}): expected a number of at least 1, such as 100.')
    classes = len(built.classes)
    if classes < 2:
        raise InputError(f'LongTail needs two classes or more, but {type(built).__name__} has {classes}.')
    sizes, places = _sizes(built), _places(built.classes, order, seed)
    if min(sizes) < 1:
        empty = built.classes[sizes.index(0)]
        raise InputError(f'LongTail: class {empty!r} has no sample: leave it out of the classes, or complete the data.')
    shares = [factor ** (-place / (classes - 1)) for place in places]
    most = min(math.floor(size / share + 1e-9) for size, share in zip(sizes, shares, strict=True))
    counts = [math.floor(most * share + 1e-9) for share in shares]  # 1e-9: 500 * 100**-1 must not become 4.999...
    if min(counts) < 1:
        empty = built.classes[counts.index(min(counts))]
        raise InputError(f'LongTail(factor={factor}) leaves no sample of class {empty!r}: give a smaller factor.')
    return built.select(per_class_index(built.labels, counts, seed), f'LongTail of factor {factor:g}')


def _places(classes: Sequence[str], order: str | Sequence[int | str] | None, seed: int) -> list[int]:
    """Place of each class, by its number, from the largest to the smallest."""
    count = len(classes)
    if order is None:
        return list(range(count))
    if order == 'shuffled':
        return torch.randperm(count, generator=keyed_generator(seed, 'order of classes')).tolist()
    if isinstance(order, str):
        hint = did_you_mean(order, ['shuffled'])
        raise InputError(f"LongTail(order={order!r}): expected 'shuffled', a list of all classes or None{hint}.")
    numbers = [classes.index(item) if item in classes else item for item in order]
    if len(numbers) != count or set(numbers) != set(range(count)):
        raise InputError(f'LongTail(order={list(order)!r}): expected each of the {count} classes once, number or name.')
    return [numbers.index(label) for label in range(count)]


@DATASETS.register_module(name='ClassBalanced')
def class_balanced(dataset: Mapping[str, Any] | Selectable, power: float = 0.0, seed: int = 0) -> Selectable:
    r"""Rare classes more often: of a class with n samples an epoch shows :math:`N (n/N)^p`, N those of the largest.

    No sample is left out. Those of a class come equally often, up to one; which come once more is drawn by ``seed`` and
    stays so in all epochs. Data in memory takes memory for each copy. (mmengine's ``ClassBalancedDataset`` repeats by
    thresholds of frequency, for images with several classes; the bank of a loader draws with replacement instead.)

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, who draw
    with replacement.

    Args:
        dataset: config of a data set, or one that is built.
        power: p, 0 for equally large classes, 0.5 for square-root sampling, 1 for no change.
        seed: seed of the draws.

    Returns:
        A data set of the same class as ``dataset``.

    Raises:
        InputError: a power out of its range, or the data has no classes.
    """
    built = build_inner(dataset, 'ClassBalanced')
    if not is_number(power, 0, 1):
        raise InputError(f'ClassBalanced(power={power!r}): expected a number from 0 to 1.')
    largest = max(_sizes(built))
    index: list[Tensor] = []
    for label in range(len(built.classes)):
        members = members_of(built.labels, label)
        if not len(members):
            continue
        wanted = math.floor(largest * (len(members) / largest) ** power + 0.5)
        whole, rest = divmod(wanted, len(members))
        more = torch.randperm(len(members), generator=keyed_generator(seed, 'balance', label))[:rest]
        index += [members.repeat(whole), members[more]]
    return built.select(torch.cat(index).sort().values, f'ClassBalanced with power {power:g}')
