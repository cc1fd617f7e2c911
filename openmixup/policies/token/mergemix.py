"""MergeMix (Jin et al., ICLR 2026)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError
from openmixup.policies.base import PairPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Plan, View
from openmixup.policies.pairing import pair_index
from openmixup.policies.static.mixup import Mixup
from openmixup.policies.tokens import best_cells, cell_view
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['MergeMix']


@POLICIES.register_module()
class MergeMix(PairPolicy):
    r"""Keep the patches of the own image that the class token attends to most in a pass that merges tokens.

    In a pass of the clean images, in eval mode and without gradient, patches that are alike are merged behind each
    block, more of them in the first blocks than in the last. The score of a patch is the attention of the class token
    to the token that the patch is in **at that block**, over the number of patches in it; merged tokens count by that
    number in the attention too. Of T patches the :math:`\lfloor \lambda T \rfloor` best ones stay and the partner shows
    at the others. Labels follow the share of the pixels. A Mixup of the same batch, with draws of its own, is learned
    beside it.

    As reported; not checked against the authors' code, which has no part for classification. That a group's attention
    is parted among its patches is a choice of this implementation. Left out are a scaling of lam by the least and the
    greatest of the batch, which makes one image of each batch whole, partners chosen by their masks, and merging in the
    pass that is trained. Made for networks on tokens with plain attention, such as ViT and DeiT.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0.
        per: 'batch' for one number of patches a batch, as reported, or 'sample' for one each. The places follow from
            each image in both cases.
        pairing: 'derangement' (as reported), 'permutation' or 'flip'.
        merge: share of the patches that all blocks together merge away, in [0, 1); published figures have 1/4, 1/2
            and 3/4 of 196.
        block: whose attention, counted from 0; a negative one counts from the last. 8 and 11 of 12 were reported.
        mixup: alpha of the Mixup beside it, which costs another pass; None leaves it out.
    """

    needs = ('attention',)
    operators = 12
    paper = 'https://arxiv.org/abs/2510.23479'

    def __init__(
        self,
        alpha: float = 1.0,
        per: str = 'batch',
        pairing: str = 'derangement',
        merge: float = 0.5,
        block: int = -1,
        mixup: float | None = 0.8,
    ) -> None:
        super().__init__(alpha, per, pairing)
        if not is_number(merge) or not 0 <= merge < 1:
            raise InputError(f'MergeMix(merge={merge!r}): expected a share of the patches in [0, 1).')
        if not is_whole(block):
            raise InputError(f'MergeMix(block={block!r}): expected a whole number, -1 for the last block.')
        if mixup is not None and not (is_number(mixup) and 0.01 <= mixup < 1e4):
            raise InputError(
                f'MergeMix(mixup={mixup!r}): expected an alpha from 0.01 to 10000, or None to leave it out.'
            )
        self.merge, self.block, self.mixup = merge, block, mixup
        # in a tuple, as it is no member with a turn of its own
        self._beside = () if mixup is None else (Mixup(mixup, per, pairing),)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The view of patches, and that of Mixup."""
        plan = super().plan(batch, ctx)
        return replace(
            plan, views=(*plan.views, *(view for each in self._beside for view in each.plan(batch, ctx).views))
        )

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """The best patches of each image, the partner elsewhere."""
        scores = ctx.probe.merged_attention(batch.images, self.merge, self.block)
        cells = scores[0].numel()
        kept = (torch.arange(cells) < (lam * cells).long()[:, None]).float()
        index, kept = to_device(batch.images.device, pair_index(partner), kept)
        return cell_view(batch, index, best_cells(scores, kept))
