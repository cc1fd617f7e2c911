"""What one decoded image goes through: a random crop and augmentation for training, the central crop for the test."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from openmixup.datasets.checks import check_choice
from openmixup.datasets.transforms.base import pair
from openmixup.datasets.transforms.geometry import RandomResizedCrop
from openmixup.errors import InputError

__all__ = ['SampleCrop']

_ASPECT = 4
_MEAN = (124, 116, 104)  # of ImageNet's pixels: what rotations, shears and shifts leave uncovered
_FORM = re.compile(r'rand(-(m\d+|mstd\d+(\.\d+)?|n\d+|p[01](\.\d+)?|mmax\d+|inc[01]))*')


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's and NumPy's global streams, which timm draws from, begin at ``seed`` inside and go on undisturbed."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  (what timm draws from)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _rand_augment(text: str, size: tuple[int, int], interpolation: str) -> Any:
    """RandAugment as timm's training script builds it."""
    if not _FORM.fullmatch(text):  # timm passes over what it does not know
        raise InputError(
            f"augment={text!r} is not a RandAugment of timm: write it as 'rand-m9-mstd0.5-inc1', of the parts m (mean "
            'magnitude), mstd (its deviation), n (operations), p (their probability), mmax and inc1 (all grow stronger '
            'with the magnitude).'
        )
    from PIL import Image
    from timm.data.auto_augment import rand_augment_transform

    hparams = {
        'translate_const': int(min(size) * 0.45),
        'img_mean': _MEAN,
        'interpolation': Image.Resampling[interpolation.upper()],
    }
    made = rand_augment_transform(text, hparams)
    for operation in made.ops:
        if operation.name.startswith('Posterize'):
            # timm may ask for 0 bits, which recent versions of PIL refuse
            operation.level_fn = partial(_at_least_one_bit, operation.level_fn)
    return made


def _at_least_one_bit(level_fn: Callable, level: float, hparams: dict) -> tuple[int]:
    return (max(1, level_fn(level, hparams)[0]),)


class SampleCrop:
    """Bring one image to a fixed size, in uint8, and augment it if asked for.

    Args:
        size: side, or (height, width), of the result in pixels.
        random: True: a box drawn as torchvision's ``RandomResizedCrop`` draws it; False: resize the short side, then
            cut out the centre.
        scale: least and greatest share of the image's area (random only).
        ratio: least and greatest width / height (random only).
        resize: short side in pixels before the central crop (not random only); None: size / 0.875, as 256 for 224.
        interpolation: 'bilinear' or 'bicubic'.
        antialias: smooth before an image is reduced.
        augment: a RandAugment as timm writes it, for example 'rand-m9-mstd0.5-inc1', applied to the result by timm's
            own code on PIL images; for batches on a device there is the transform ``RandAugment``.

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
        augment: str | None = None,
    ) -> None:
        check_choice('interpolation', interpolation, ('bilinear', 'bicubic'))
        self.size, self.random = pair('size', size), random
        self.resize = resize if resize is not None else round(max(self.size) / 0.875)
        if self.resize < max(self.size):
            raise InputError(f'resize={resize} is below size={size}; give at least {max(self.size)}.')
        self.boxes = RandomResizedCrop(self.size, scale, ratio)
        self.interpolation, self.antialias = interpolation, antialias
        self.augment = _rand_augment(augment, self.size, interpolation) if augment is not None else None

    def __call__(self, image: Tensor, rng: Generator) -> Tensor:
        """Crop: uint8 (3, H, W) -> uint8 (3, *size); ``rng`` is a CPU generator, read only by what is random."""
        image = self.cropped(image, rng)
        if self.augment is None:
            return image
        from PIL import Image

        with _seeded(int(torch.randint(2**32, (), generator=rng))):
            picture = self.augment(Image.fromarray(image.permute(1, 2, 0).numpy()))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()

    def cropped(self, image: Tensor, rng: Generator) -> Tensor:
        """The crop alone."""
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
