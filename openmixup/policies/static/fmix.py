"""FMix (Harris et al., 2020)."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, View
from openmixup.policies.precision import arithmetic
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['FMix']

FAINT = 4096  # waves whose amplitude is less than this part of the greatest are left out


@POLICIES.register_module()
class FMix(MaskPolicy):
    """Show the partner in the low places of smooth noise; the labels follow the share of pixels.

    The noise has a Gaussian spectrum with the amplitude 1 / max(f, 1 / max(H, W))^decay at f cycles a pixel. Its
    lam * H * W highest pixels, rounded up or down by the toss of a coin, keep the own image. The authors' label weight
    is lam before it is rounded, less than one pixel away from the weight here.

    Waves below 1/4096 of the greatest amplitude are left out: with decay 3, more than 16 cycles an image, which images
    up to 32 pixels do not have. So few are drawn, and the transform is two small products instead of an FFT.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; published tables use 0.2 and 1.
        per: 'batch' for one lam and mask a batch (the authors' code), 'sample' for one each.
        pairing: 'derangement' (no image is mixed with itself), 'permutation' (the authors' code) or 'flip'.
        decay: how fast the amplitudes fall, from 0 (white noise) to 10.
        max_soft: share of the pixels on each side of the cut over whose ranks the mask falls evenly from 1 to 0, from 0
            (a hard cut) to 0.5; it is reduced to min(lam, 1 - lam).
        reformulate: lam ~ Beta(alpha + 1, alpha), and the label is that of the own image alone.
    """

    paper = 'https://arxiv.org/abs/2002.12047'

    def __init__(
        self,
        alpha: float = 1.0,
        per: str = 'batch',
        pairing: str = 'derangement',
        decay: float = 3.0,
        max_soft: float = 0.0,
        reformulate: bool = False,
    ) -> None:
        super().__init__(alpha, per, pairing)
        if not is_number(decay, 0, 10):
            raise InputError(f'FMix(decay={decay!r}): expected a number from 0 to 10.')
        if not is_number(max_soft, 0, 0.5):
            raise InputError(f'FMix(max_soft={max_soft!r}): expected a share of the pixels from 0 to 0.5.')
        if not isinstance(reformulate, bool):
            raise InputError(f'FMix(reformulate={reformulate!r}): expected True or False.')
        self.decay, self.max_soft, self.reformulate = decay, max_soft, reformulate

    @property
    def label(self) -> str:  # type: ignore[override]
        """Shares of the pixels, unless reformulated."""
        return 'semantic' if self.reformulate else 'pixels'

    @property
    def operators(self) -> int:  # type: ignore[override]
        """12, and one to divide by the width of a soft cut."""
        return 13 if self.max_soft else 12

    @property
    def lam_beta(self) -> tuple[float, float]:
        """Both alpha, or alpha + 1 and alpha."""
        return self.alpha + self.reformulate, self.alpha

    def draw_lam(self, count: int, rng: torch.Generator) -> Tensor:
        """(count,) float64 on the CPU, share of the own image."""
        if not self.reformulate:
            return super().draw_lam(count, rng)
        law = torch.tensor(self.lam_beta, dtype=torch.float64).expand(count, 2)
        return torch._sample_dirichlet(law.contiguous(), generator=rng)[:, 0]

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """Blend by the mask."""
        view = super().view(batch, partner, lam, ctx)
        if not self.reformulate:
            return view
        weight = torch.zeros_like(view.mixture.weight)
        weight[:, 0] = 1
        return replace(view, mixture=Mixture(view.mixture.index, weight))

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        """(1, H, W) on the CPU, or (N, H, W) on the images' device."""
        height, width = batch.images.shape[-2:]
        waves = _waves((height, width), float(self.decay))
        drawn = torch.randn(len(lam), *waves.amplitude.shape, generator=ctx.rng).mul_(waves.amplitude)
        coin = torch.rand(len(lam), generator=ctx.rng, dtype=torch.float64)
        if len(lam) == 1 or batch.images.device.type == 'cpu':
            noise = _noise(drawn, waves.columns, waves.rows).flatten(1)
            cuts = zip(noise, lam.tolist(), coin.tolist(), strict=True)
            return torch.stack([self._cut(*cut) for cut in cuts]).view(-1, height, width)
        ramps = self._ramps(lam, coin, height * width)
        drawn, columns, rows, *where = to_device(batch.images.device, drawn, waves.columns, waves.rows, *ramps)
        return self._cut_all(_noise(drawn, columns, rows).flatten(1), *where).view(-1, height, width)

    def _cut(self, noise: Tensor, lam: float, coin: float) -> Tensor:
        """(H W,) of one mask from ``noise`` (H W,) on the CPU, where no order is needed but that of a soft cut."""
        pixels = len(noise)
        kept = math.ceil(lam * pixels) if coin < 0.5 else math.floor(lam * pixels)
        soft = min(int(pixels * min(self.max_soft, lam, 1 - lam)), kept, pixels - kept)
        value = torch.ones(kept + soft)
        if soft:
            value[kept - soft :] = torch.linspace(1, 0, 2 * soft)
        order = noise.topk(kept + soft, sorted=soft > 0).indices
        return torch.zeros(pixels).scatter_(0, order, value)

    def _ramps(self, lam: Tensor, coin: Tensor, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 1) ranks at which the masks have come down to 0, over how many ranks they fall from 1; (H W,) all ranks.

        Float32 on the CPU.
        """
        kept = torch.where(coin < 0.5, (lam * pixels).ceil(), (lam * pixels).floor())
        soft = (torch.minimum(lam, 1 - lam).clamp_(max=self.max_soft) * pixels).floor()
        soft = torch.minimum(soft, torch.minimum(kept, pixels - kept))
        end = kept + (soft - 1).clamp_(min=0)
        length = (2 * soft - 1).clamp_(min=1)
        return end.float()[:, None], length.float()[:, None], torch.arange(pixels, dtype=torch.float32)

    def _cut_all(self, noise: Tensor, end: Tensor, length: Tensor, rank: Tensor) -> Tensor:
        """(N, H W) of the masks from ``noise`` (N, H W) and :meth:`_ramps`, by sorting: many on any device at once."""
        ranked = end - rank
        ranked = (ranked / length if self.max_soft else ranked).clamp_(0, 1)
        return torch.empty_like(ranked).scatter_(1, noise.argsort(1, descending=True), ranked)


class Waves(NamedTuple):
    """The waves of which noise is made, as real numbers.

    Args:
        amplitude: (R, 2 K) of R waves along a column of the image times K along a row, for real and imaginary parts.
        columns: (2 K, 2 W) from real and imaginary parts to both parts of the rows of the image.
        rows: (H, 2 R) from those parts, by turns, to the real part of its columns.
    """

    amplitude: Tensor
    columns: Tensor
    rows: Tensor


@functools.lru_cache(maxsize=16)
def _waves(size: tuple[int, int], decay: float) -> Waves:
    """Those for images of (H, W) pixels that are not faint."""
    (height, width), longer = size, max(size)
    # of small decays all are kept, long before the power becomes too large for a number
    most = (FAINT ** min(1 / decay, 80) + 1e-6) / longer if decay else math.inf
    vertical = torch.fft.fftfreq(height, dtype=torch.float64)
    horizontal = torch.fft.rfftfreq(width, dtype=torch.float64)
    vertical, horizontal = vertical[vertical.abs() <= most], horizontal[horizontal <= most]
    frequency = torch.hypot(vertical[:, None], horizontal).clamp_(min=1 / longer)
    amplitude = (frequency * longer).pow_(-decay).repeat(1, 2)
    angle = 2 * math.pi * horizontal[:, None] * torch.arange(width)
    once = (horizontal == 0) | (horizontal == 0.5)  # the others stand for their mirror images, too
    cos, sin = (part(angle) * (2 - once[:, None].double()) for part in (torch.cos, torch.sin))
    columns = torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)])
    angle = 2 * math.pi * torch.arange(height)[:, None] * vertical
    rows = torch.stack([angle.cos(), -angle.sin()], 2).flatten(1)
    return Waves(amplitude.float(), columns.float(), rows.float())


def _noise(drawn: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """(b, H, W) the inverse transform of spectra (b, R, 2 K), up to a factor."""
    with arithmetic(drawn.device, torch.float32):
        parts = (drawn @ columns).view(len(drawn), rows.shape[1], -1)  # (b, 2 R, W)
        return torch.bmm(rows.expand(len(drawn), -1, -1), parts)
