"""What every batch transform shares: the call, its checks, and how drawn numbers reach the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Generator, Tensor

from openmixup.checks import is_whole
from openmixup.errors import InputError
from openmixup.registry import TRANSFORMS

__all__ = ['BatchTransform', 'Compose', 'check_range', 'pair']


def pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """``(height, width)`` of an argument that is one side or two, each at least 1 pixel."""
    sides = (value, value) if isinstance(value, int) else tuple(value)
    if len(sides) != 2 or not all(is_whole(side, 1) for side in sides):
        raise InputError(f'{name}={value!r}: give a side, or (height, width), of at least 1 pixel.')
    return sides[0], sides[1]


def check_range(name: str, value: Sequence[float], upper: float = float('inf')) -> tuple[float, float]:
    """``(low, high)`` with 0 < low <= high <= upper."""
    if len(value) != 2 or not 0 < value[0] <= value[1] <= upper:
        most = '' if upper == float('inf') else f' <= {upper:g}'
        raise InputError(f'{name}={value!r}: give (low, high) with 0 < low <= high{most}.')
    return float(value[0]), float(value[1])


class BatchTransform(ABC):
    """A function of a batch and a generator.

    Values are in units of 0..255, as uint8 or floating point, until :class:`Normalize`. Each sample gets its own
    parameters; they are drawn on the CPU from the generator that the caller passes and from nothing else, so that the
    same generator state gives the same parameters on every device. The input is never changed in place, and nothing is
    read back from the device.

    Attributes:
        after_normalize: True: it works on normalised images, so that ``BatchPreprocessor`` applies it behind
            :class:`Normalize`.
    """

    after_normalize: ClassVar[bool] = False

    def __call__(self, images: Tensor, rng: Generator | None = None) -> Tensor:
        """Transform a batch.

        Args:
            images: uint8 or floating point, (N, C, H, W), on any device.
            rng: CPU generator of the draws; only transforms that draw nothing go without.

        Returns:
            The new batch, (N, C, H', W'), on the same device; it may be the input itself where nothing is to do.

        Raises:
            InputError: another shape or type, or no generator where one is needed.
        """
        if images.ndim != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
            raise InputError(
                f'{type(self).__name__} got {images.dtype} of shape {tuple(images.shape)}; '
                'give uint8 or floating point images of shape (N, C, H, W).'
            )
        return self.apply(images, rng)

    @abstractmethod
    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """The transform itself; the input is checked already."""

    def need(self, rng: Generator | None) -> Generator:
        """The generator, or the error that says it is missing."""
        if rng is None:
            raise InputError(
                f'{type(self).__name__} draws random numbers: pass a torch.Generator as its second argument.'
            )
        return rng


@TRANSFORMS.register_module()
class Compose(BatchTransform):
    """Several batch transforms, one after the other.

    Args:
        transforms: transforms, or their configs ``dict(type=..., ...)``, in the order in which they are applied.
    """

    def __init__(self, transforms: Sequence[BatchTransform | dict]) -> None:
        self.transforms = tuple(TRANSFORMS.build(t) for t in transforms)

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Apply all of them in order."""
        for transform in self.transforms:
            images = transform(images, rng)
        return images
