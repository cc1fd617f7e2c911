"""The geometric step of one decoded image: a random resized crop for training, the central one for the test."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Generator, Tensor

from openmixup.datasets.checks import check_choice
from openmixup.datasets.transforms.base import pair
from openmixup.datasets.transforms.geometry import RandomResizedCrop
from openmixup.errors import InputError

__all__ = ['SampleCrop']

_ASPECT = 4


class SampleCrop:
    """Bring one image to a fixed size, in uint8.

    Args:
        size: side, or (height, width), of the result in pixels.
        random: True: a box drawn as torchvision's ``RandomResizedCrop`` draws it; False: resize the short side, then
            cut out the centre.
        scale: least and greatest share of the image's area (random only).
        ratio: least and greatest width / height (random only).
        resize: short side in pixels before the central crop (not random only); None: size / 0.875, as 256 for 224.
        interpolation: 'bilinear' or 'bicubic'.
        antialias: smooth before an image is reduced.

    Raises:
        InputError: a value out of its range.
    """

    def __init__(
        self,
        size: int | Sequence[int] = 224,
        random: bool = True,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        resize: int | None = None,
        interpolation: str = 'bilinear',
        antialias: bool = True,
    ) -> None:
        check_choice('interpolation', interpolation, ('bilinear', 'bicubic'))
        self.size, self.random = pair('size', size), random
        self.resize = resize if resize is not None else round(max(self.size) / 0.875)
        if self.resize < max(self.size):
            raise InputError(f'resize={resize} is below size={size}; give at least {max(self.size)}.')
        self.boxes = RandomResizedCrop(self.size, scale, ratio)
        self.interpolation, self.antialias = interpolation, antialias

    def __call__(self, image: Tensor, rng: Generator) -> Tensor:
        """Crop: uint8 (3, H, W) -> uint8 (3, *size); ``rng`` is a CPU generator, read only if ``random``."""
        from torchvision.transforms.v2 import InterpolationMode, functional

        mode = InterpolationMode(self.interpolation)
        if self.random:
            top, left, h, w = self.boxes.draw(1, image.shape[1], image.shape[2], rng)[0].tolist()
            return functional.resized_crop(image, top, left, h, w, list(self.size), mode, self.antialias)
        # of a strip, whose long side would grow without limit, the ends that the central crop cannot see go first
        longest = _ASPECT * min(image.shape[1:])
        if max(image.shape[1:]) > longest:
            image = functional.center_crop(image, [min(side, longest) for side in image.shape[1:]])
        image = functional.resize(image, [self.resize], mode, antialias=self.antialias)
        return functional.center_crop(image, list(self.size))
