"""GridMask (Chen et al., 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from openmixup.checks import is_number, is_range
from openmixup.errors import InputError
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch
from openmixup.policies.static.deletion import DeletePolicy
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['GridMask']


@POLICIES.register_module()
class GridMask(DeletePolicy):
    """Delete a regular grid of squares from each image; labels stay.

    The plane is divided into units of d pixels a side, moved by a random number of pixels; of each unit a square with
    the side (1 - ratio) d is deleted, so a share of 1 - (1 - ratio)^2 is kept. d, the shift and the angle are drawn for
    each image. Pixels become 0, the mean colour of normalised images.

    The paper raises the probability linearly from 0 to ``prob``, on ImageNet over the first 240 of 300 epochs
    (``ramp=0.8``); by default it is ``prob`` from the start, so that it also works where no progress is known. Settings
    as reported, not checked against the authors' code.

    Args:
        unit: (least, most) side d of a unit as a share of the shorter image side, above 0 and at most 2. The paper uses
            96 to 224 of 224 pixels on ImageNet, 24 to 32 of 32 on CIFAR: (0.75, 1.0).
        ratio: share of a unit's side that is kept, between 0 and 1; 0.6 on ImageNet, 0.4 on CIFAR.
        prob: probability that an image gets a grid.
        ramp: share of the run over which the probability rises from 0, from 0 to 1.
        rotate: the grid is turned by up to so many degrees, from 0 to 360.
    """

    paper = 'https://arxiv.org/abs/2001.04086'

    def __init__(
        self,
        unit: tuple[float, float] = (0.43, 1.0),
        ratio: float = 0.6,
        prob: float = 0.8,
        ramp: float = 0.0,
        rotate: float = 0.0,
    ) -> None:
        super().__init__()
        if not is_range(unit, 0, 2) or unit[0] == 0:
            raise InputError(f'GridMask(unit={unit!r}): expected (least, most) with 0 < least <= most <= 2.')
        if not is_number(ratio) or not 0 < ratio < 1:
            raise InputError(f'GridMask(ratio={ratio!r}): expected a number between 0 and 1.')
        for name, value, most in (('prob', prob, 1), ('ramp', ramp, 1), ('rotate', rotate, 360)):
            if not is_number(value, 0, most):
                raise InputError(f'GridMask({name}={value!r}): expected a number from 0 to {most}.')
        self.unit, self.ratio, self.prob, self.ramp, self.rotate = unit, ratio, prob, ramp, rotate

    def kept(self, batch: Batch, ctx: Context) -> Tensor:
        """(N, 1, H, W) 0 in the squares: where rows and columns both lie in the first part of a unit."""
        images = batch.images
        height, width = images.shape[-2:]
        draw = torch.rand(len(batch), 5, 1, generator=ctx.rng, dtype=torch.float64)
        least, most = (max(round(side * min(height, width)), 2) for side in self.unit)
        side = least + (draw[:, 0] * (most - least + 1)).floor()
        stripe = (self.ratio * side + 0.5).floor().clamp(min=1).minimum(side - 1)
        share = (1 - stripe / side) * (draw[:, 3] < self.chance(ctx.progress))
        # middles of pixels, which no edge of an upright unit meets
        rows, columns = (torch.arange(length) + 0.5 - length // 2 for length in (height, width))
        down, across = ((draw[:, axis] * side).floor() for axis in (1, 2))
        share = share[:, :, None].float()
        if self.rotate == 0:
            upright = ((rows + down) / side % 1)[:, :, None], ((columns + across) / side % 1)[:, None]
            first, second, share = to_device(images.device, *(part.float() for part in upright), share)
        else:
            angle = draw[:, 4] * math.radians(self.rotate)
            cos, sin = angle.cos() / side, angle.sin() / side
            parts = (cos * rows + down / side, sin * columns, -sin * rows, cos * columns + across / side)
            *turned, share = to_device(images.device, *(part.float() for part in parts), share)
            first = (turned[0][:, :, None] + turned[1][:, None]).remainder_(1)
            second = (turned[2][:, :, None] + turned[3][:, None]).remainder_(1)
        return (torch.maximum(first, second) >= share).to(images.dtype)[:, None]

    def chance(self, progress: float) -> float:
        """Probability that an image gets a grid after a share ``progress`` of the run."""
        return self.prob * min(progress / self.ramp, 1) if self.ramp > 0 else self.prob
