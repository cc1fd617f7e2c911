"""C-Mixup (Yao et al., NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import PairPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import pair_weights
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['CMixup']


@POLICIES.register_module()
class CMixup(PairPolicy):
    r"""For regression: Mixup with partners whose labels are near, mixed = lam * own + (1 - lam) * partner.

    The partner of sample i is source j with a probability in proportion to :math:`\exp(-|y_i - y_j|^2 / (2
    \sigma^2))`, itself included, over the batch and, if it has one, its bank. Labels may be vectors (Euclidean
    distance); give angles as sine and cosine, whose mixture is sound where that of 350 and 10 degrees is not. Of class
    indices as of one-hot labels two different ones are :math:`\sqrt 2` apart.

    Partners are drawn on the device, where the labels are, without a read: the largest of the logarithms of the kernel
    with Gumbel noise from the CPU is such a draw.

    Deviation: the authors draw from the whole training set, or in their batch mode from the batch; here a bank makes
    the choice larger. Their option to mix hidden features is not offered.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; 2 in most of the paper's settings.
        sigma: width of the kernel in units of the labels, above 0. The authors' lie between 0.05 and 20, by data set.
        per: 'batch' for one lam a batch, 'sample' for one each.
    """

    label = 'drawn'
    paper = 'https://arxiv.org/abs/2210.05775'

    def __init__(self, alpha: float = 2.0, sigma: float = 1.0, per: str = 'batch') -> None:
        super().__init__(alpha, per)
        if not is_number(sigma) or sigma <= 0:
            raise InputError(f'CMixup(sigma={sigma!r}): expected a number above 0, in units of the labels.')
        self.sigma = sigma

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Draw lam and noise on the CPU, partners on the device, then blend."""
        if batch.labels is None:
            raise InputError('CMixup draws partners by their labels, but the batch has none: give labels.')
        images, size = batch.images, len(batch)
        lam = self.draw_lam(size if self.per == 'sample' else 1, ctx.rng)
        distance = squared_distances(batch)
        noise = torch.empty(distance.shape).exponential_(generator=ctx.rng).log_().neg_()
        own, weight, noise = to_device(images.device, torch.arange(size), pair_weights(lam, size), noise)
        partner = torch.add(noise, distance, alpha=-0.5 / self.sigma**2).argmax(1)
        mixture = Mixture(torch.stack([own, partner], 1), weight)
        view = View(
            mixture.of(batch.source_images),
            mixture,
            lambda: mixture.weight[..., None, None].expand(-1, -1, *images.shape[-2:]),
        )
        return Plan(batch, (view,), self)


def squared_distances(batch: Batch) -> Tensor:
    """(N, S) squared distances of the labels of a batch to those of all its sources."""
    labels, size = batch.source_labels, len(batch)
    if batch.target == 'class':
        return (labels[:size, None] != labels).float() * 2
    labels = labels.reshape(len(labels), -1)
    labels = labels.to(torch.promote_types(labels.dtype, torch.float32))
    # not by inner products: labels that are large and near would lose their distance
    return torch.cdist(labels[:size], labels, compute_mode='donot_use_mm_for_euclid_dist').square_()
