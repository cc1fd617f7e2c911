"""Batch transforms that change values: normalising, jitter of colours and erasing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from openmixup.datasets.checks import check_choice
from openmixup.datasets.transforms import operations as op
from openmixup.datasets.transforms.base import BatchTransform, check_range
from openmixup.datasets.transforms.boxes import draw_boxes
from openmixup.errors import InputError
from openmixup.policies.transfer import to_device
from openmixup.registry import TRANSFORMS

__all__ = ['ColorJitter', 'Normalize', 'RandomErasing']


@TRANSFORMS.register_module()
class Normalize(BatchTransform):
    """``(images / 255 - mean) / std`` per channel, in float32; the input is in units of 0..255.

    Args:
        mean: mean of each channel, in units of 0..1.
        std: standard deviation of each channel, in units of 0..1, above 0.

    Raises:
        InputError: different lengths, a value beyond 0..1, or another number of channels in a batch.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        if len(mean) != len(std) or not len(mean):
            raise InputError(f'mean={mean!r} and std={std!r}: give one number per channel in each.')
        if any(not 0 <= m <= 1 for m in mean) or any(not 0 < s <= 1 for s in std):
            raise InputError(f'mean={mean!r}, std={std!r}: give them in units of 0..1 (divide by 255), std above 0.')
        middle, spread = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        self.mean, self.std = tuple(mean), tuple(std)
        self._factors = torch.stack([1 / (255 * spread), -middle / spread]).float()[:, None, :, None, None]
        self._placed: dict[torch.device, Tensor] = {}

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Normalise; the shape stays, the type becomes float32."""
        if images.shape[1] != len(self.mean):
            raise InputError(
                f'Normalize has {len(self.mean)} channels and the images have {images.shape[1]}; match them.'
            )
        if images.device not in self._placed:
            self._placed[images.device] = self._factors.to(images.device)
        factor, shift = self._placed[images.device]
        if images.dtype == torch.float32:
            return (images * factor).add_(shift)
        return images.float().mul_(factor).add_(shift)


@TRANSFORMS.register_module()
class ColorJitter(BatchTransform):
    """Change brightness, contrast and saturation of each sample by random factors.

    Each factor is uniform in [max(0, 1 - range), 1 + range] and drawn for each sample; the order of the three is drawn
    once for a batch (torchvision draws it for each image). Floating-point images are rounded to whole values first.

    Args:
        brightness: range of the factor, 0 (no change) or more.
        contrast: the same for the contrast.
        saturation: the same for the saturation.
    """

    def __init__(self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4) -> None:
        ranges = {'brightness': brightness, 'contrast': contrast, 'saturation': saturation}
        for name, value in ranges.items():
            if not 0 <= value < float('inf'):
                raise InputError(f'{name}={value}: give a number of at least 0.')
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Jitter; shape and type stay."""
        rng = self.need(rng)
        order = torch.randperm(3, generator=rng).tolist()
        ranges = torch.tensor([self.brightness, self.contrast, self.saturation])[:, None]
        low, high = (1 - ranges).clamp_(min=0), 1 + ranges
        factors = low + torch.rand(3, len(images), generator=rng) * (high - low)
        tables, (_, contrast, saturation) = op.brightness_tables(factors[0]), factors
        tables, contrast, saturation = to_device(images.device, tables, contrast, saturation)
        pixels = images if images.dtype == torch.uint8 else images.round().clamp_(0, 255).to(torch.uint8)
        steps = ((op.apply_tables, tables), (op.contrast, contrast), (op.color, saturation))
        for number in order:
            function, strength = steps[number]
            pixels = function(pixels, strength)
        return pixels.to(images.dtype)


@TRANSFORMS.register_module()
class RandomErasing(BatchTransform):
    """Overwrite a random box in some of the samples.

    Source: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020. Boxes are drawn as torchvision draws them; a
    sample for which none of 10 tries fits stays as it is.

    Args:
        prob: probability of a sample to be erased, 0 to 1.
        scale: least and greatest share of the image's area, 0 < low <= high <= 1.
        ratio: least and greatest width / height.
        value: 'zero' (the mean of normalised images), or 'noise': standard normal numbers in floating-point images,
            uniform 0..255 in uint8 ones. One noise picture is drawn per batch; each sample reads it from its
            own offset. ``BatchPreprocessor`` applies it behind ``Normalize``.
    """

    after_normalize = True

    def __init__(
        self,
        prob: float = 0.25,
        scale: Sequence[float] = (0.02, 1 / 3),
        ratio: Sequence[float] = (0.3, 10 / 3),
        value: str = 'zero',
    ) -> None:
        check_choice('value', value, ('zero', 'noise'))
        if not 0 <= prob <= 1:
            raise InputError(f'prob={prob}: give a probability from 0 to 1.')
        self.prob, self.value = prob, value
        self.scale, self.ratio = check_range('scale', scale, 1), check_range('ratio', ratio)

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Erase; shape and type stay."""
        rng = self.need(rng)
        n, _, height, width = images.shape
        frame = (height, width)
        boxes, found = draw_boxes(n, frame, self.scale, self.ratio, rng, largest=(height - 1, width - 1))
        boxes *= (found & (torch.rand(n, generator=rng) < self.prob))[:, None]  # a box of height 0 erases nothing
        offset = torch.randint(0, height * width, (n, 1), generator=rng)
        (packed,) = to_device(images.device, torch.cat([boxes, offset], 1))
        top, left, h, w = packed[:, :4, None].unbind(1)
        row, column = (torch.arange(side, device=images.device) for side in frame)
        inside = ((row >= top) & (row < top + h))[:, None, :, None] & ((column >= left) & (column < left + w))[
            :, None, None
        ]
        # multiplying and lerp are several times faster than torch.where with a broadcast mask, and as exact
        if self.value == 'zero':
            return images * (~inside).to(images.dtype)
        noise = self._noise(images, packed[:, 4], rng)
        if images.is_floating_point():
            return torch.lerp(images, noise, inside.to(images.dtype))
        return torch.where(inside, noise, images)

    @staticmethod
    def _noise(images: Tensor, offset: Tensor, rng: Generator) -> Tensor:
        """Noise of the shape of ``images``: one picture, shifted cyclically by each sample's offset."""
        n, c, height, width = images.shape
        area = height * width
        if images.is_floating_point():
            drawn = torch.randn(c, area, generator=rng).to(images.dtype)
        else:
            drawn = torch.randint(0, 256, (c, area), generator=rng, dtype=torch.uint8)
        (picture,) = to_device(images.device, drawn.repeat(1, 2))
        places = offset[:, None] + torch.arange(area, device=images.device)
        return picture.index_select(1, places.view(-1)).view(c, n, height, width).transpose(0, 1)
