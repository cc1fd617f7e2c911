"""SmoothMix (Lee et al., CVPR workshops 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from openmixup.checks import is_range
from openmixup.errors import InputError
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.masks import Outer, gaussian_bump, gaussian_bumps
from openmixup.policies.mixture import Batch
from openmixup.registry import POLICIES

__all__ = ['SmoothMix']


@POLICIES.register_module()
class SmoothMix(MaskPolicy):
    """Blend in the partner by a Gaussian bump without edges; the labels follow the mean of the bump.

    G = exp(-r^2 / (2 s^2)), r the distance from a uniformly drawn pixel, s = u sqrt(H W) with u ~ U(sigma);
    mixed = (1 - G) * own + G * partner, and the own weight is 1 - mean(G). Code of others gives the own label the
    weight mean(G), which is that of the partner.

    The paper, as reported, also has square masks with soft edges; they are not offered. On images that are not square
    the bump stays round.

    Args:
        per: 'batch' for one bump a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
        sigma: (least, greatest) spread of the bump as a share of the side of a square image, above 0.
    """

    paper = (
        'https://openaccess.thecvf.com/content_CVPRW_2020/html/w45/'
        'Lee_SmoothMix_A_Simple_Yet_Effective_Data_Augmentation_to_Train_Robust_CVPRW_2020_paper.html'
    )

    def __init__(
        self, per: str = 'batch', pairing: str = 'permutation', sigma: tuple[float, float] = (0.25, 0.5)
    ) -> None:
        super().__init__(1.0, per, pairing)
        if not isinstance(sigma, tuple | list) or len(sigma) != 2:
            raise InputError(f'SmoothMix(sigma={sigma!r}): expected (least, greatest), shares of the side.')
        if not is_range(sigma, 0.01, 100):
            raise InputError(f'SmoothMix(sigma={sigma!r}): expected two numbers from 0.01 to 100 that do not fall.')
        self.sigma = sigma

    @property
    def lam_beta(self) -> None:
        """There is no lam: what is drawn uniformly in its place is the spread of the bump."""

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Outer:  # noqa: ARG002
        """One bump a batch or a sample; the greater ``lam``, the smaller it is."""
        height, width = batch.images.shape[-2:]
        low, high = self.sigma
        if len(lam) == 1:  # the same without tensors
            deviation = (high - (high - low) * lam.item()) * math.sqrt(height * width)
            down, across = gaussian_bump(deviation * deviation, (height, width), ctx.rng)
            return Outer.one(1.0, -down, across)
        spread = (high - (high - low) * lam) * math.sqrt(height * width)
        rows, columns = gaussian_bumps(spread.square(), (height, width), ctx.rng)
        return Outer(torch.ones(len(lam)), -rows, columns)
