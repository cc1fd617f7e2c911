"""CMO (Park et al., CVPR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from openmixup.checks import is_whole
from openmixup.errors import InputError
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.masks import Boxes, cutmix_boxes
from openmixup.policies.mixture import Batch, Plan
from openmixup.registry import POLICIES

__all__ = ['CMO']


@POLICIES.register_module()
class CMO(MaskPolicy):
    """For long-tailed data: paste a box of an image from a class-weighted second loader into each image.

    CutMix in which sample i of the batch gets the box of image i of the second loader, whose samples are drawn with
    replacement and a probability by 1 / n_c^k, n_c the size of their class. The labels follow the area of the box.

    The authors mix half of the batches, from epoch 4 (counted from 0) up to the last three:
    ``RandomChoice(policies=[dict(type='CMO', window=(4, 197)), dict(type='Vanilla')])`` for 200 epochs.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; the box has the area 1 - lam before it is clipped to the image.
        per: 'batch' for one lam and box a batch (the authors' code), 'sample' for one each.
        window: (first, end): it mixes in epochs from first up to but not including end; end None for ever.
    """

    needs = ('pixels', 'bank')
    paper = 'https://arxiv.org/abs/2112.00412'

    def __init__(self, alpha: float = 1.0, per: str = 'batch', window: tuple[int, int | None] = (0, None)) -> None:
        super().__init__(alpha, per)
        whole = isinstance(window, tuple | list) and len(window) == 2
        first, end = window if whole else (-1, None)
        if not is_whole(first, 0) or not (end is None or is_whole(end, first + 1)):
            raise InputError(f'CMO(window={window!r}): expected (first, end) with 0 <= first < end, or end None.')
        self.window = window

    @property
    def rate(self) -> float:
        """1 if it mixes in epoch 0, else 0."""
        return float(self._is_on(0))

    def _is_on(self, epoch: int) -> bool:
        first, end = self.window
        return first <= epoch and (end is None or epoch < end)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Sample i and image i of the bank, which starts again from its front if it is smaller than the batch."""
        if not self._is_on(ctx.epoch):
            return self.unmixed(batch)
        if batch.bank is None or not len(batch.bank):
            raise InputError(
                'CMO takes its partners from a second loader, but the batch has no bank: add '
                "bank=dict(weights='inverse') to train_dataloader."
            )
        size = len(batch)
        partner = size + torch.arange(size) % len(batch.bank)
        lam = self.draw_lam(size if self.per == 'sample' else 1, ctx.rng)
        return Plan(batch, (self.view(batch, partner, lam, ctx),), self)

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Boxes:  # noqa: ARG002
        """One box a batch or a sample, as CutMix draws it."""
        height, width = batch.images.shape[-2:]
        return cutmix_boxes(lam, (height, width), ctx.rng)

    def donor(self, batch: Batch, partner: Tensor, region: Boxes | Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        """Images of the bank, without a copy of the batch beside them."""
        assert batch.bank is not None
        return batch.bank.images.index_select(0, partner - len(batch))
