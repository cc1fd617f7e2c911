"""CutMix (Yun et al., ICCV 2019)."""

from __future__ import annotations

from torch import Tensor

from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.masks import Boxes, cutmix_boxes
from openmixup.policies.mixture import Batch
from openmixup.registry import POLICIES

__all__ = ['CutMix']


@POLICIES.register_module()
class CutMix(MaskPolicy):
    """Paste a box of the partner; the labels follow the area of the box after clipping.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; the box has the area 1 - lam before it is clipped to the image.
        per: 'batch' for one lam and box a batch (the authors' code), 'sample' for one each.
        pairing: 'derangement' (no image is cut into itself), 'permutation' (the authors' code) or 'flip'.
    """

    paper = 'https://arxiv.org/abs/1905.04899'

    def __init__(self, alpha: float = 1.0, per: str = 'batch', pairing: str = 'derangement') -> None:
        super().__init__(alpha, per, pairing)

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Boxes:  # noqa: ARG002
        """One box a batch or a sample."""
        height, width = batch.images.shape[-2:]
        return cutmix_boxes(lam, (height, width), ctx.rng)
