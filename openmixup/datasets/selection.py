"""What wrappers around data sets share: choosing samples, changing labels, and configs that hold another one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.randomness import keyed_generator
from openmixup.registry import DATASETS

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ['Selectable', 'build_inner', 'innermost', 'members_of', 'per_class_index']


class Selectable:
    """A data set of which other ones with some of its samples, or with other labels, can be made.

    Both are of the same class, so that loaders, workers and checks treat them as they treat the original, and share its
    storage as far as they can.

    Attributes:
        labels: int64 class numbers (N,), or floats (N, ...) of a regression.
        classes: names, a tuple of str; empty for a regression.
        clean_labels: the labels (N,) before any were changed; None if none were.
        changes: what wrappers have done, a phrase for each, the first one first.
    """

    labels: Tensor
    classes: tuple[str, ...]
    clean_labels: Tensor | None = None
    changes: tuple[str, ...] = ()

    def select(self, index: Tensor, change: str) -> Self:
        """The data set of the samples at ``index``, (M,) int64 on the CPU, in this order; some may come repeatedly.

        Args:
            index: numbers of samples.
            change: a phrase for :attr:`changes`.

        Raises:
            InputError: there would be no sample.
        """
        if not len(index):
            raise InputError(f'{change} leaves no sample of {len(self.labels)}: keep at least one.')
        made = copy.copy(self)
        made.labels = self.labels[index]
        if self.clean_labels is not None:
            made.clean_labels = self.clean_labels[index]
        made.changes = (*self.changes, change)
        made._keep(index)
        return made

    def relabelled(self, labels: Tensor, change: str) -> Self:
        """The same samples with other ``labels``; those of the original stay as :attr:`clean_labels`."""
        made = copy.copy(self)
        made.labels = labels.to(self.labels)
        made.clean_labels = self.labels if self.clean_labels is None else self.clean_labels
        made.changes = (*self.changes, change)
        return made

    def _keep(self, index: Tensor) -> None:
        """Keep of the storage the samples at ``index`` only.

        A subclass that holds more for each sample than the images and labels extends it, as RCFMNIST does.
        """
        raise NotImplementedError


def build_inner(dataset: Any, wrapper: str, classes: bool = True) -> Any:
    """The data set that a wrapper stands around.

    Args:
        dataset: config of a data set, or one that is built.
        wrapper: name of the wrapper, for messages.
        classes: whether the wrapper needs class labels.

    Raises:
        InputError: it cannot be built, cannot be wrapped, or has no class labels.
    """
    built = DATASETS.build(dataset)
    if not isinstance(built, Selectable):
        raise InputError(
            f'{wrapper} cannot stand around {type(built).__name__}: give a data set of openmixup, or derive yours from '
            'openmixup.datasets.InMemoryDataset or ImageFiles (and extend _keep for what else it holds of each sample).'
        )
    if classes and built.labels.is_floating_point():
        remedy = 'give fraction=0.1' if wrapper == 'Subset' else 'leave the wrapper out'
        raise InputError(f'{wrapper} needs classes, but {type(built).__name__} has regression targets: {remedy}.')
    return built


def members_of(labels: Tensor, label: int) -> Tensor:
    """Numbers of the samples of a class, (M,) int64 on the CPU, rising."""
    return (labels.cpu() == label).nonzero()[:, 0]


def per_class_index(labels: Tensor, counts: Sequence[int], seed: int) -> Tensor:
    """Numbers of ``counts[c]`` samples of each class c, drawn without replacement, (M,) int64, rising.

    The draw of a class depends on (seed, class, its number of samples) alone, and a smaller count takes a part of what
    a larger one takes.
    """
    kept = []
    for label, count in enumerate(counts):
        members = members_of(labels, label)
        order = torch.randperm(len(members), generator=keyed_generator(seed, 'subset', label))
        kept.append(members[order[:count]])
    return torch.cat(kept).sort().values


def innermost(config: Mapping[str, Any]) -> Any:
    """The config of the data set inside all wrappers."""
    while isinstance(config.get('dataset'), Mapping):
        config = config['dataset']
    return config
