"""Remix (Chou et al., ECCV 2020 workshops)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Network
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.transfer import to_device
from openmixup.policies.wrap.base import WrapPolicy
from openmixup.registry import POLICIES

__all__ = ['Remix']


@POLICIES.register_module()
class Remix(WrapPolicy):
    """For long-tailed data: give the whole label of a mixed image to its rarer class; the image stays as it is.

    Of two sources with n_i and n_j training images in their classes, i loses its label to j if n_i >= kappa n_j and its
    weight is below tau; likewise j to i. Otherwise the weights stay. With balanced classes nothing changes.

    The paper blends by Mixup; this stands around any policy of two sources, such as CutMix. Soft and multi-hot labels
    count with the mean number of images of their classes, by their shares.

    Args:
        policy: what makes the images and the weights to start from.
        counts: number of training images of each class; None: counted in each batch, which is rough for rare classes.
        kappa: from which ratio of numbers on, above 1; 3 in the paper.
        tau: below which weight a source may lose its label, from 0 to 1; 0.5 in the paper.
    """

    label = 'semantic'
    paper = 'https://arxiv.org/abs/2007.03943'
    own_operators = 12

    def __init__(
        self,
        policy: MixPolicy | dict[str, Any] = {'type': 'Mixup'},  # noqa: B006  (never changed)
        counts: Sequence[int] | None = None,
        kappa: float = 3.0,
        tau: float = 0.5,
    ) -> None:
        super().__init__(policy)
        if counts is not None and not _are_counts(counts):
            raise InputError(
                f'Remix(counts={counts!r}): expected the number of training images of each class, as [500, 40, 3], or '
                'None to count in each batch.'
            )
        if not is_number(kappa) or kappa <= 1:
            raise InputError(f'Remix(kappa={kappa!r}): expected a number above 1, a ratio of class sizes.')
        if not is_number(tau, 0, 1):
            raise InputError(f'Remix(tau={tau!r}): expected a number from 0 to 1, a weight.')
        self.counts, self.kappa, self.tau = counts, kappa, tau

    def bind(self, network: Network) -> None:
        """Compare the number of classes."""
        super().bind(network)
        _refuse_regression(network.target)
        if self.counts is not None and len(self.counts) != network.num_classes:
            raise InputError(
                f'Remix has counts of {len(self.counts)} classes, but the network has {network.num_classes}: give one '
                'for each class.'
            )

    def kept(self, inner: Plan) -> Plan:
        """The inner views, their weights by the rule."""
        views = tuple(self._moved(view, inner.batch) for view in inner.views)
        return replace(self.around(inner), views=views)

    def _moved(self, view: View, batch: Batch) -> View:
        index, weight = view.mixture.index, view.mixture.weight
        if index.shape[1] == 1:
            return view
        if index.shape[1] != 2:
            raise InputError(
                f'Remix compares two sources, but {type(self.policy).__name__} mixes {index.shape[1]}: choose another '
                'policy.'
            )
        size = self.sizes(batch)[index]
        lost = (size >= self.kappa * size.flip(1)) & (weight < self.tau)  # never both, as kappa > 1
        weight = torch.where(lost.flip(1), weight.sum(1, keepdim=True), weight).masked_fill(lost, 0)
        return replace(view, mixture=Mixture(index, weight))

    def sizes(self, batch: Batch) -> Tensor:
        """(S,) float32 above 0, number of training images of the class of each source."""
        _refuse_regression(batch.target)
        labels, table = batch.source_labels, None
        if self.counts is not None:
            (table,) = to_device(labels.device, torch.tensor(self.counts, dtype=torch.float32))
        if batch.target == 'class':
            size = (labels[:, None] == labels).sum(1).float() if table is None else table[labels.long()]
        else:
            labels = labels.float()
            size = labels @ (labels.sum(0) if table is None else table) / labels.sum(1).clamp_min(1e-6)
        return size.clamp_min(1e-6)


def _refuse_regression(target: str) -> None:
    if target == 'regression':
        raise InputError('Remix compares the sizes of classes, but the target is regression: choose another policy.')


def _are_counts(counts: Any) -> bool:
    if not isinstance(counts, Sequence) or isinstance(counts, str) or not counts:
        return False
    return all(is_whole(count, 0) for count in counts)
