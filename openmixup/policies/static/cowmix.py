"""CowMix (French et al., 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from openmixup.checks import is_range
from openmixup.errors import InputError
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch
from openmixup.policies.precision import arithmetic
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['CowMix']

STEP = 0.5  # distance of the noise's points, in sigmas
REACH = 3.0  # how far a point of noise is felt, in sigmas


@POLICIES.register_module()
class CowMix(MaskPolicy):
    """Show the partner in the patches of a cow: where blurred noise is high; the labels follow the share of pixels.

    Normal noise is blurred by a Gaussian of sigma pixels, drawn evenly on a logarithmic scale. With m and d its mean
    and deviation over the image, the own image stays where the noise is at most m + d * quantile(p), quantile that of
    the normal law and p ~ U(share). The share of a single mask differs from p, so the weights are the measured ones.

    This is the mask of CowMask, which the paper mixes unlabelled images with; here labels are mixed along. The ranges
    are as reported, not checked against the authors' code: 4 to 16 pixels of 32, and 0.2 to 0.8. The noise is drawn at
    points half a sigma apart, to three sigmas beyond the borders; after the blur that is as good as noise at each
    pixel, and it does not fade towards the borders.

    Args:
        per: 'batch' for one mask a batch, 'sample' for one each (the paper).
        pairing: 'permutation', 'derangement' or 'flip'.
        sigma: (least, greatest) sigma as a share of the side of a square image, from 0.01 to 10.
        share: (least, greatest) p, from 0 to 1.
    """

    paper = 'https://arxiv.org/abs/2003.12022'

    def __init__(
        self,
        per: str = 'batch',
        pairing: str = 'permutation',
        sigma: tuple[float, float] = (0.125, 0.5),
        share: tuple[float, float] = (0.2, 0.8),
    ) -> None:
        super().__init__(1.0, per, pairing)
        for name, value, low, high in (('sigma', sigma, 0.01, 10), ('share', share, 0, 1)):
            if not is_range(value, low, high):
                raise InputError(f'CowMix({name}={value!r}): expected (least, greatest), numbers from {low} to {high}.')
        self.sigma, self.share = sigma, share

    @property
    def lam_beta(self) -> None:
        """Lam is drawn evenly from a range, and only the mean share of many masks."""

    def draw_lam(self, count: int, rng: torch.Generator) -> Tensor:
        """(count,) float64 on the CPU, p, from U(share)."""
        low, high = self.share
        return low + (high - low) * super().draw_lam(count, rng)

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        """(1, H, W) on the CPU, or (N, H, W) on the images' device."""
        height, width = size = batch.images.shape[-2:]
        (low, high), scale = self.sigma, math.sqrt(height * width)
        sigma = scale * low * (high / low) ** torch.rand(len(lam), generator=ctx.rng, dtype=torch.float64)
        down, across = (math.ceil((length / (scale * low) + 2 * REACH) / STEP) + 1 for length in size)
        noise = torch.randn(len(lam), down, across, generator=ctx.rng)
        pixels, points = _distances(sigma, max(size), max(down, across))
        device = batch.images.device if len(lam) > 1 else lam.device
        noise, pixels, points, quantile = to_device(
            device, noise, pixels, points, torch.special.ndtri(lam).float()[:, None, None]
        )
        with arithmetic(device, torch.float32):
            felt = torch.bmm(pixels, points.expand(len(lam), -1, -1)).exp_()  # (b, longer side, most points)
            noise = torch.bmm(felt[:, :height, :down], noise)
            noise = torch.bmm(noise, felt[:, :width, :across].mT)
        spread, mean = torch.std_mean(noise, (1, 2), keepdim=True)
        return noise.le_(torch.addcmul(mean, spread, quantile))


def _distances(sigma: Tensor, length: int, count: int) -> tuple[Tensor, Tensor]:
    """(b, length, 3) and (3, count), whose product is -d^2 / 2, d from each pixel to each point in sigmas."""
    at, points = torch.arange(length) / sigma[:, None], torch.arange(count) * STEP - REACH
    ones = torch.ones_like
    pixels = torch.stack([at, at.square() / -2, ones(at)], 2)
    return pixels.float(), torch.stack([points, ones(points), points.square() / -2])
