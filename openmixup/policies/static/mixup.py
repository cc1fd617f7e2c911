"""Mixup (Zhang et al., ICLR 2018)."""

from __future__ import annotations

from torch import Tensor

from openmixup.policies.base import PairPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, View
from openmixup.policies.pairing import pair_index, pair_weights
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['Mixup']


@POLICIES.register_module()
class Mixup(PairPolicy):
    """Blend two images and their labels by the same lam: mixed = lam * own + (1 - lam) * partner.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0. The paper uses 1 on CIFAR, 0.2 on ImageNet.
        per: 'batch' for one lam a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
    """

    label = 'drawn'
    paper = 'https://arxiv.org/abs/1710.09412'

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:  # noqa: ARG002
        """Blend; one kernel gathers, scales and sums."""
        images, size = batch.images, len(batch)
        mixture = Mixture(*to_device(images.device, pair_index(partner), pair_weights(lam, size)))
        return View(
            mixture.of(batch.source_images),
            mixture,
            lambda: mixture.weight[..., None, None].expand(-1, -1, *images.shape[-2:]),
        )
