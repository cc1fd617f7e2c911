"""VH-Mixup (Summers and Dinneen, WACV 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['VHMixup']


@POLICIES.register_module()
class VHMixup(MaskPolicy):
    """Blend a vertical and a horizontal concatenation of two images; the labels follow what is left of each.

    One picture has the upper share a of the own image above the partner's lower rest, the other the left share b of the
    own image beside the partner's right rest; lam, a and b ~ Beta(alpha, alpha). The first counts lam, the second
    1 - lam, so that the own image shows with 1 upper left, lam upper right, 1 - lam lower left and 0 lower right. Its
    label weighs lam a + (1 - lam) b, the rule of the paper, with a and b as they are after rounding to whole pixels.

    Args:
        alpha: of the Beta law of the three shares, above 0. From memory, 1 in the paper.
        per: 'batch' for one draw a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' (no image meets itself) or 'flip'.
    """

    paper = 'https://arxiv.org/abs/1805.11272'
    exempt = {'every_pixel_has_its_turn': 'the own image is always the upper and the left one, as in the paper'}

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        """(1 or N, H, W): lam in the upper rows plus 1 - lam in the left columns."""
        shares = (lam, 1 - lam)
        parts = []
        for share, length in zip(shares, batch.images.shape[-2:], strict=True):
            first = (self.draw_lam(len(lam), ctx.rng) * length).round()
            parts.append(share[:, None] * (torch.arange(length) < first[:, None]))
        rows, columns = to_device(batch.images.device, *(part.float() for part in parts))
        return rows[:, :, None] + columns[:, None, :]
