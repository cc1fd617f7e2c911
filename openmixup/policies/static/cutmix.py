"""CutMix (Yun et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from openmixup.checks import is_range
from openmixup.errors import InputError
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.masks import Boxes, cutmix_boxes, inner_boxes
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
        minmax: (least, most) side of the box as a share of the image's, from 0 to 1, as ``cutmix_minmax`` of timm:
            height and width are drawn each, the box lies in the image, and alpha is not used; None: the box follows
            lam. Unlike in timm the greatest side can be drawn.
    """

    paper = 'https://arxiv.org/abs/1905.04899'

    def __init__(
        self,
        alpha: float = 1.0,
        per: str = 'batch',
        pairing: str = 'derangement',
        minmax: Sequence[float] | None = None,
    ) -> None:
        super().__init__(alpha, per, pairing)
        if minmax is not None and not is_range(minmax, 0, 1):
            raise InputError(
                f'{type(self).__name__}(minmax={minmax!r}): expected (least, most) with 0 <= least <= most <= 1, as '
                '(0.2, 0.8), or None.'
            )
        self.minmax = minmax

    @property
    def lam_beta(self) -> tuple[float, float] | None:
        """Both alpha; None if the sides are drawn and lam is not used."""
        return super().lam_beta if self.minmax is None else None

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Boxes:  # noqa: ARG002
        """One box a batch or a sample."""
        height, width = batch.images.shape[-2:]
        if self.minmax is not None:
            return inner_boxes(len(lam), self.minmax, (height, width), ctx.rng)
        return cutmix_boxes(lam, (height, width), ctx.rng)
