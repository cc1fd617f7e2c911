"""HMix (Park et al., NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.masks import Outer, cutmix_box, cutmix_boxes
from openmixup.policies.mixture import Batch
from openmixup.registry import POLICIES

__all__ = ['HMix']


@POLICIES.register_module()
class HMix(MaskPolicy):
    """Paste a box of the partner and blend the rest with it, so that the own image has the share lam in all.

    The box has the area ratio * (1 - lam) before it is clipped to the image. With c the share of the pixels outside of
    it, what is there is the blend (lam / c) * own + (1 - lam / c) * partner. The label weight is lam, and the mean of
    the mask is lam too. Ratio 0 is Mixup; ratio 1 is CutMix where the box is not clipped.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; what the paper uses for it was not found, 1 is our choice.
        per: 'batch' for one lam and box a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation', 'derangement' or 'flip' (the authors' code).
        ratio: how much of the partner's share the box has, from 0 to 1; 0.5 in the paper's figure, 1 is the default of
            the authors' code.
    """

    paper = 'https://arxiv.org/abs/2208.09913'

    def __init__(
        self, alpha: float = 1.0, per: str = 'batch', pairing: str = 'permutation', ratio: float = 0.5
    ) -> None:
        super().__init__(alpha, per, pairing)
        if not is_number(ratio, 0, 1):
            raise InputError(f'HMix(ratio={ratio!r}): expected a number from 0 (Mixup) to 1 (the box of CutMix).')
        self.ratio = ratio

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Outer:  # noqa: ARG002
        """One box a batch or a sample."""
        height, width = batch.images.shape[-2:]
        # rounding makes a box no larger, so lam / c is at most 1; a box of all the image leaves nothing to divide
        if len(lam) == 1:  # the same in plain numbers
            own = lam.item()
            box = cutmix_box(1 - self.ratio * (1 - own), (height, width), ctx.rng)
            outside = min(own / max(box.share(), 1e-12), 1.0)
            return Outer.one(outside, *box.lines(-outside))
        boxes = cutmix_boxes(1 - self.ratio * (1 - lam), (height, width), ctx.rng)
        rows, columns = boxes.sides(torch.float32)
        shares = (lam / boxes.kept().clamp_(min=1e-12)).clamp_(max=1).float()
        return Outer(shares, -shares[:, None] * rows, columns)
