"""Random Erasing (Zhong et al., AAAI 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from openmixup.checks import is_number, is_range
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.context import Context
from openmixup.policies.masks import Boxes
from openmixup.policies.mixture import Batch, Plan
from openmixup.policies.static.deletion import DeletePolicy
from openmixup.policies.transfer import to_device
from openmixup.randomness import draw_seed, generator_on
from openmixup.registry import POLICIES

__all__ = ['RandomErasing']

FILLS = ('noise', 'colour', 'zero')
TRIES = 20  # sizes that are drawn for each image


@POLICIES.register_module()
class RandomErasing(DeletePolicy):
    """Overwrite a rectangle of random area and aspect in some of the images, with noise or a colour; labels stay.

    A chosen image gets a rectangle whose area is a uniform share of the image and whose height is a uniform multiple of
    its width. One that is not smaller than the image along both sides is drawn anew; then its place is drawn, all of it
    inside. Sides are rounded to whole pixels, at least one.

    Noise and colours are uniform over the range of the pixels if the normalisation of the images is known (in a
    learner), else over that of the same width in which numbers have mean 0 and standard deviation 1. Both are drawn on
    the device, by a generator that is seeded from the stream of the policy, so another kind of device draws others.

    Deviations: an image stays whole if none of 20 sizes fits (the authors draw up to 100), which by default happens to
    long narrow images only. Anew is drawn the size only, as in the authors' code as we recall it, not checked against
    it; in the paper it is the place too, which favours small rectangles. torchvision and timm draw the logarithm of the
    aspect evenly and erase at most a third. The batch transform of the same name does it so, and can stand in front of
    any policy that mixes.

    Args:
        prob: probability that an image gets a rectangle.
        area: (least, greatest) share of the image's area, 0 < least <= greatest <= 1.
        aspect: (least, greatest) height / width, from 0.01 to 100.
        fill: 'noise' for a number of its own at each pixel (the paper's best), 'colour' for one colour an image, or
            'zero' for the mean colour of normalised images.
    """

    paper = 'https://arxiv.org/abs/1708.04896'
    exempt = {
        **DeletePolicy.exempt,
        'label_equals_pixels': 'what is erased is filled with noise, which belongs to no source',
        'pixels_stay_in_place': 'what is erased is filled with noise',
    }

    def __init__(
        self,
        prob: float = 0.5,
        area: Sequence[float] = (0.02, 0.4),
        aspect: Sequence[float] = (0.3, 10 / 3),
        fill: str = 'noise',
    ) -> None:
        super().__init__()
        if not is_number(prob, 0, 1):
            raise InputError(f'RandomErasing(prob={prob!r}): expected a probability from 0 to 1.')
        if not is_range(area, 0, 1) or area[0] == 0:
            raise InputError(
                f'RandomErasing(area={area!r}): expected two shares (least, greatest) above 0 and at most 1, as '
                '(0.02, 0.4).'
            )
        if not is_range(aspect, 0.01, 100):
            raise InputError(
                f'RandomErasing(aspect={aspect!r}): expected two numbers (least, greatest) from 0.01 to 100, height / '
                'width, as (0.3, 3.3).'
            )
        if fill not in FILLS:
            raise InputError(f'RandomErasing(fill={fill!r}){did_you_mean(fill, FILLS)}: expected {", ".join(FILLS)}.')
        self.prob, self.area, self.aspect, self.fill = prob, area, aspect, fill

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The batch with rectangles in it."""
        if self.fill == 'zero':
            return super().plan(batch, ctx)
        kept, images = self.kept(batch, ctx), batch.images
        view = self.unmixed(batch).views[0]
        mixed = torch.lerp(self.filling(images, ctx), images, kept)
        return Plan(batch, (replace(view, inputs=mixed, lazy_masks=lambda: kept),), self)

    def kept(self, batch: Batch, ctx: Context) -> Tensor:
        """(N, 1, H, W) 0 in the rectangle of each image."""
        images = batch.images
        rows, columns = to_device(images.device, *self.boxes(batch, ctx.rng).sides(images.dtype))
        return 1 - rows[:, None, :, None] * columns[:, None, None, :]

    def boxes(self, batch: Batch, rng: torch.Generator) -> Boxes:
        """One rectangle an image, empty where none is drawn: the first of several sizes that fits, at a place."""
        count, height, width = len(batch), *batch.images.shape[-2:]
        draw = torch.rand(2, count, TRIES, generator=rng, dtype=torch.float64)
        pixels, aspect = (
            low + (high - low) * each for each, (low, high) in zip(draw, (self.area, self.aspect), strict=True)
        )
        pixels *= height * width
        sides = torch.stack([pixels * aspect, pixels / aspect], -1).sqrt_().round_().clamp_(min=1)  # (N, TRIES, 2)
        limit = torch.tensor([height, width], dtype=torch.float64)
        fits = (sides < limit).all(-1)
        first = fits.long().argmax(1)
        side = sides[torch.arange(count), first]
        place = torch.rand(count, 3, generator=rng, dtype=torch.float64)
        low = (place[:, :2] * (limit - side + 1).clamp_(min=1)).long()
        erased = (place[:, 2] < self.prob) & fits.any(1)
        return Boxes(low, low + side.long() * erased[:, None], (height, width))

    def filling(self, images: Tensor, ctx: Context) -> Tensor:
        """(N, C, H, W) or (N, C, 1, 1) uniform numbers of the type of the images, drawn on their device."""
        channels, generator = images.shape[1], generator_on(images.device, draw_seed(ctx.rng))
        size = images.shape if self.fill == 'noise' else (*images.shape[:2], 1, 1)
        drawn = torch.empty(size, dtype=images.dtype, device=images.device).uniform_(generator=generator)
        if len(ctx.mean) == len(ctx.std) == channels:
            mean, spread = torch.tensor(ctx.mean), 1 / torch.tensor(ctx.std)
            low = -mean * spread
        else:
            low, spread = torch.full((channels,), -math.sqrt(3)), torch.full((channels,), math.sqrt(12))
        parts = (each.to(images.dtype)[:, None, None] for each in (low, spread))
        low, spread = to_device(images.device, *parts)
        return torch.addcmul(low, drawn, spread)
