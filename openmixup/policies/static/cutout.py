"""Cutout (DeVries and Taylor, 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.context import Context
from openmixup.policies.masks import Boxes
from openmixup.policies.mixture import Batch
from openmixup.policies.static.deletion import DeletePolicy
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['Cutout']


@POLICIES.register_module()
class Cutout(DeletePolicy):
    """Delete a square of each image and keep its label.

    The centre is uniform over the pixels, so the square may lie partly outside. Pixels become 0, which is the mean
    colour of normalised images. The paper gives the side in pixels; here it is a share, to mean the same at all sizes.

    For a rectangle of random area and aspect, filled with noise, there is the batch transform ``RandomErasing``.

    Args:
        length: side of the square as a share of the shorter image side, above 0 and at most 1. The paper uses 16 of 32
            pixels for CIFAR-10 (0.5), 8 for CIFAR-100 (0.25), 20 for SVHN (0.625).
        prob: probability that an image gets a square, 1 in the paper.
    """

    paper = 'https://arxiv.org/abs/1708.04552'

    def __init__(self, length: float = 0.5, prob: float = 1.0) -> None:
        super().__init__()
        if not is_number(length) or not 0 < length <= 1:
            raise InputError(
                f'Cutout(length={length!r}): expected a number above 0 and at most 1, a share of the shorter side; '
                '16 of 32 pixels are 0.5.'
            )
        if not is_number(prob, 0, 1):
            raise InputError(f'Cutout(prob={prob!r}): expected a probability from 0 to 1.')
        self.length, self.prob = length, prob

    def kept(self, batch: Batch, ctx: Context) -> Tensor:
        """(N, 1, H, W) 0 in the square of each image."""
        images = batch.images
        rows, columns = to_device(images.device, *self.squares(batch, ctx.rng).sides(images.dtype))
        return 1 - rows[:, None, :, None] * columns[:, None, None, :]

    def squares(self, batch: Batch, rng: torch.Generator) -> Boxes:
        """One square an image, cut off at the border; an empty one where none is drawn."""
        height, width = batch.images.shape[-2:]
        limit = torch.tensor([height, width])
        side = max(round(self.length * min(height, width)), 1)
        draw = torch.rand(len(batch), 3, generator=rng, dtype=torch.float64)
        low = (draw[:, :2] * limit).long() - side // 2
        high = low + side * (draw[:, 2:] < self.prob)
        return Boxes(low.clamp(min=0), torch.minimum(high, limit).clamp(min=0), (height, width))
