"""ResizeMix (Qin et al., Computational Visual Media 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_range
from openmixup.errors import InputError
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.masks import Box, Boxes, cutmix_box, cutmix_boxes
from openmixup.policies.mixture import Batch
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['ResizeMix']

MODES = ('nearest', 'bilinear')


@POLICIES.register_module()
class ResizeMix(MaskPolicy):
    """Paste the whole partner, made small, into a box; the labels follow the area of the box after clipping.

    The sides of the box are tau * H and tau * W in whole pixels, its centre is a uniformly drawn pixel, and it is
    clipped to the image, but keeps a pixel. The partner is resized into what is left of it. tau ~ Beta(alpha, alpha),
    and what falls out of the scope is drawn anew, evenly in the scope: with alpha 1 that is U(scope), as in the paper.

    Nearest pixels are those below the middle of the new ones; some code takes the upper left corner instead.

    Args:
        alpha: of the law of tau, above 0; published tables use 1.
        per: 'batch' for one box a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
        scope: (least, greatest) tau, from 0 to 1.
        interpolation: 'nearest', or 'bilinear', which published tables use for vision transformers; pixels in between
            are skipped, not averaged.
    """

    paper = 'https://arxiv.org/abs/2012.11101'
    operators = 20
    exempt = {
        'pixels_stay_in_place': 'the partner is resized into the box',
        'identical_images_stay_identical': 'an image with a small copy of itself in it is another image',
    }

    def __init__(
        self,
        alpha: float = 1.0,
        per: str = 'batch',
        pairing: str = 'permutation',
        scope: tuple[float, float] = (0.1, 0.8),
        interpolation: str = 'nearest',
    ) -> None:
        super().__init__(alpha, per, pairing)
        if not is_range(scope, 0, 1):
            raise InputError(f'ResizeMix(scope={scope!r}): expected (least, greatest), numbers from 0 to 1.')
        if interpolation not in MODES:
            raise InputError(f'ResizeMix(interpolation={interpolation!r}): expected one of {", ".join(MODES)}.')
        self.scope, self.interpolation = scope, interpolation

    @property
    def lam_beta(self) -> None:
        """The law of lam is no Beta law: that of tau is, in part."""

    def draw_lam(self, count: int, rng: torch.Generator) -> Tensor:
        """(count,) float64 on the CPU, share of the own image before clipping: 1 - tau^2."""
        (low, high), chance = self.scope, torch.rand(count, generator=rng, dtype=torch.float64)
        tau = low + (high - low) * chance
        if self.alpha != 1:
            drawn = super().draw_lam(count, rng)
            tau = torch.where((drawn < low) | (drawn > high), tau, drawn)
        return 1 - tau.square()

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Boxes:  # noqa: ARG002
        """One box a batch or a sample, of a pixel at least."""
        height, width = batch.images.shape[-2:]
        if len(lam) == 1:  # the same in plain numbers
            (top, bottom), (left, right) = cutmix_box(lam.item(), (height, width), ctx.rng).ends
            return Box(((top, max(bottom, top + 1)), (left, max(right, left + 1))), (height, width))
        boxes = cutmix_boxes(lam, (height, width), ctx.rng)
        return Boxes(boxes.low, torch.maximum(boxes.high, boxes.low + 1), boxes.size)

    def donor(self, batch: Batch, partner: Tensor, region: Boxes | Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        """Images that show the whole partner in the box; what is outside of it is not to be seen."""
        assert isinstance(region, Boxes)
        images = batch.source_images
        rows, columns = to_device(images.device, *(self._sources(region, axis) for axis in (0, 1)))
        donors = images.index_select(0, partner)
        if self.interpolation == 'nearest':
            places = (rows[:, :, None] * region.size[1] + columns[:, None, :]).flatten(1)[:, None]
            return donors.flatten(2).gather(2, places.expand(-1, donors.shape[1], -1)).view(donors.shape)
        grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), 3)
        wide = donors.to(torch.promote_types(images.dtype, torch.float32))
        return F.grid_sample(wide, grid.to(wide.dtype), align_corners=False).to(images.dtype)

    def patch(self, batch: Batch, partner: Tensor, box: Boxes, ctx: Context) -> Tensor:  # noqa: ARG002
        """The whole partner, as large as the box."""
        images, (down, across) = batch.source_images, box.slices()
        side = (down.stop - down.start, across.stop - across.start)
        if self.interpolation == 'nearest':
            rows, columns = (self._sources(box, axis)[0, part] for axis, part in enumerate((down, across)))
            (places,) = to_device(images.device, (rows[:, None] * box.size[1] + columns).flatten())
            small = images.flatten(2).index_select(2, places).unflatten(2, side)
        else:
            small = F.interpolate(images, size=side, mode='bilinear')
        return small.index_select(0, partner)

    def _sources(self, boxes: Boxes, axis: int) -> Tensor:
        """(N, H) or (N, W) where in the partner the pixels of a row or column lie.

        Whole numbers of pixels, or for bilinear sampling the middle as ``grid_sample`` counts, from -1 to 1.
        """
        length, low, high = boxes.size[axis], boxes.low[:, axis, None], boxes.high[:, axis, None]
        middle = 2 * (torch.arange(length) - low) + 1  # over 2 (high - low) the share of the way across the box
        if self.interpolation == 'nearest':
            return (middle * length).div(2 * (high - low), rounding_mode='floor').clamp_(0, length - 1)
        return middle / (high - low) - 1
