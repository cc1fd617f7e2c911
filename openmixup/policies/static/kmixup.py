"""Mixup of more than two images."""

from __future__ import annotations

import torch
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['KMixup']


@POLICIES.register_module()
class KMixup(MixPolicy):
    """Blend K images and their labels by weights from a Dirichlet distribution.

    Named in the Mixup paper, which (from memory) found no further gain over two images; AdAutoMix trains on such blends
    of three. The K images of a sample are itself and K - 1 different others; a batch of fewer than K images is blended
    as a whole, as if K were their number.

    Args:
        alpha: weights ~ Dirichlet(alpha, ..., alpha), above 0; the own weight alone is Beta(alpha, (K - 1) alpha).
        k: K, number of images of a sample, itself included, at least 2.
        per: 'batch' for one draw of weights a batch, 'sample' for one each.
    """

    label = 'drawn'
    paper = 'https://arxiv.org/abs/1710.09412'
    exempt = {
        'lam_follows_its_law': 'of K images the own weight is Beta(alpha, (K - 1) alpha); test_kmixup measures it'
    }

    def __init__(self, alpha: float = 1.0, k: int = 3, per: str = 'batch') -> None:
        super().__init__()
        if not is_number(alpha) or not 0.01 <= alpha < 1e4:
            raise InputError(f'KMixup(alpha={alpha!r}): expected a number from 0.01 to 10000, as of a Dirichlet.')
        if not is_whole(k, 2):
            raise InputError(f'KMixup(k={k!r}): expected a whole number of at least 2, the images of a sample.')
        if per not in ('batch', 'sample'):
            raise InputError(f"KMixup(per={per!r}): expected 'batch' (one draw a batch) or 'sample' (one each).")
        self.alpha, self.k, self.per = alpha, k, per

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Draw sources and weights on the CPU, then blend by one kernel."""
        images, size = batch.images, len(batch)
        count = min(self.k, size)
        order = torch.randperm(size, generator=ctx.rng)
        place = torch.empty_like(order).index_copy_(0, order, torch.arange(size))
        index = order[(place[:, None] + torch.arange(count)) % size]  # the sample, then those behind it in the order
        rows = size if self.per == 'sample' else 1
        own = self.draw_lam(rows, ctx.rng) if count == self.k else self._own(rows, count, ctx.rng)
        weight = self._weights(own, count, ctx.rng).float().expand(size, count)
        mixture = Mixture(*to_device(images.device, index, weight.contiguous()))
        view = View(
            mixture.of(batch.source_images),
            mixture,
            lambda: mixture.weight[..., None, None].expand(-1, -1, *images.shape[-2:]),
        )
        return Plan(batch, (view,), self)

    def draw_lam(self, count: int, rng: torch.Generator) -> Tensor:
        """(count,) float64 on the CPU, weight of the own image, from Beta(alpha, (K - 1) alpha)."""
        return self._own(count, self.k, rng)

    def _own(self, count: int, images: int, rng: torch.Generator) -> Tensor:
        """(count,) float64, weight of the own image among ``images``; 1 if it is the only one."""
        if images == 1:
            return torch.ones(count, dtype=torch.float64)
        alpha = float(self.alpha)
        law = torch.tensor([alpha, (images - 1) * alpha], dtype=torch.float64).expand(count, 2)
        return torch._sample_dirichlet(law.contiguous(), generator=rng)[:, 0]

    def _weights(self, own: Tensor, count: int, rng: torch.Generator) -> Tensor:
        """(b, count) float64: the rest of each own weight (b,) is split by a Dirichlet draw, independent of it."""
        law = torch.full((len(own), count - 1), float(self.alpha), dtype=torch.float64)
        rest = torch._sample_dirichlet(law, generator=rng) if count > 2 else torch.ones_like(law)
        return torch.cat([own[:, None], (1 - own)[:, None] * rest], 1)
