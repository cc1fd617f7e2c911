"""GMix (Park et al., NeurIPS 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.masks import Outer, gaussian_bump, gaussian_bumps
from openmixup.policies.mixture import Batch
from openmixup.registry import POLICIES

__all__ = ['GMix']


@POLICIES.register_module()
class GMix(MaskPolicy):
    """Blend the image of the smaller share into the other by a Gaussian bump of that area; labels follow the mask.

    With s = min(lam, 1 - lam) and r the distance from a uniformly drawn pixel, K = exp(-pi r^2 / (s H W)), whose
    integral over the plane is the share s of the image. The mask of the own image is K if lam < 1/2, else 1 - K. What
    of the bump lies outside of the image is lost, so the weights are the mean of the mask and not lam.

    The authors' kernel takes images as square; here H * W stands in the place of the squared side.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; what the paper uses for it was not found, 1 is our choice.
        per: 'batch' for one lam and bump a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation', 'derangement' or 'flip' (the authors' code).
    """

    paper = 'https://arxiv.org/abs/2208.09913'

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Outer:  # noqa: ARG002
        """One bump a batch or a sample."""
        height, width = batch.images.shape[-2:]
        scale, least = height * width / (2 * math.pi), 1e-9  # of lam 0 and 1 the bump is a pixel
        if len(lam) == 1:  # the same without tensors
            own = lam.item()
            down, across = gaussian_bump(max(min(own, 1 - own), least) * scale, (height, width), ctx.rng)
            return Outer.one(1.0, -down, across) if own >= 0.5 else Outer.one(0.0, down, across)
        variance = torch.minimum(lam, 1 - lam).clamp_(min=least) * scale
        rows, columns = gaussian_bumps(variance, (height, width), ctx.rng)
        inverted = (lam >= 0.5).float()
        return Outer(inverted, rows * (1 - 2 * inverted[:, None]), columns)
