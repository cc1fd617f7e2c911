"""The adversarial noise of PuzzleMix."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from openmixup.policies.context import Context
from openmixup.policies.transfer import to_device

__all__ = ['Noise']

BEYOND = 2  # in 1/255: so much further than the bound the step goes


@dataclass(frozen=True, eq=False)
class Noise:
    """Adversarial noise of images, in normalised units.

    Args:
        images: (S, C, H, W) without noise.
        uniform: (S, C, H, W) in [-1, 1].
        factor: (1,) in [0, 1], how much of the noise is added in the end.
        bound: (C, 1, 1) or () greatest noise.
        step: the same, how far it goes along the sign of the gradient.
        low: the same, least value of a pixel.
        high: the same, greatest value of a pixel.
    """

    images: Tensor
    uniform: Tensor
    factor: Tensor
    bound: Tensor
    step: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def drawn(cls, images: Tensor, eps: float, ctx: Context) -> Noise:
        """Noise for all images, before the network has seen them.

        Where the normalisation is not known, or is one of another number of channels, the values of the images count as
        those of pixels and are not clipped.

        Args:
            images: (S, C, H, W).
            eps: bound in 1/255 of the pixel range.
            ctx: random stream and normalisation.
        """
        uniform = torch.rand(images.shape, generator=ctx.rng) * 2 - 1
        factor = torch.rand(1, generator=ctx.rng)
        if len(ctx.mean) == len(ctx.std) == images.shape[1]:
            mean, std = torch.tensor(ctx.mean)[:, None, None], torch.tensor(ctx.std)[:, None, None]
            low, high = -mean / std, (1 - mean) / std
        else:
            std, low, high = torch.ones(()), torch.tensor(-torch.inf), torch.tensor(torch.inf)
        parts = (uniform, factor, eps / 255 / std, (eps + BEYOND) / 255 / std, low, high)
        return cls(images, *to_device(images.device, *(part.to(images.dtype) for part in parts)))

    @functools.cached_property
    def seen(self) -> Tensor:
        """(S, C, H, W) images with uniform noise, of which the gradient is taken."""
        return self._clipped(self.images + self.uniform * self.bound)

    def added(self, gradient: Tensor) -> Tensor:
        """(S, C, H, W) images with noise that raises the loss.

        Args:
            gradient: (S, C, H, W) of the loss by :attr:`seen`.
        """
        noise = (self.seen - self.images).addcmul_(gradient.sign().to(self.step.dtype), self.step)
        noise = torch.minimum(torch.maximum(noise, -self.bound), self.bound)
        return self._clipped(torch.addcmul(self.images, noise, self.factor))

    def _clipped(self, images: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(images, self.low), self.high)
