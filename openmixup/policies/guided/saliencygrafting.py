"""SaliencyGrafting (Park et al., AAAI 2022), a reconstruction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import PairPolicy, blended, own_masks
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, View
from openmixup.policies.pairing import pair_index
from openmixup.policies.saliency import gradient_saliency, spectral_residual
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['SaliencyGrafting']

SALIENCIES = ('gradient', 'spectral')
OPERATORS = {'gradient': 29, 'spectral': 47}  # of large bfloat16 images; others take up to three less
TINY = 1e-20  # added to each mean: a map of zeros becomes an even one
ROUNDING = 1e-5  # a cell that is so little below the mean counts as one at the mean, as all of an even map are


@POLICIES.register_module()
class SaliencyGrafting(PairPolicy):
    r"""After Saliency Grafting: paste salient cells of the partner at random; labels follow the salience that shows.

    The saliency of an image, averaged over the cells of a (g, g) grid and divided by its mean, becomes
    :math:`p = \mathrm{softmax}(s / T)`. A cell of the partner is pasted, at its place, if its p is not below the mean
    and a coin with the probability 1 - lam says so. With :math:`I_a` the sum of p over the cells of the own image that
    are kept and :math:`I_b` that over the pasted cells of the partner, the own image has the weight :math:`I_a / (I_a +
    I_b)`, which is 1 if nothing is pasted.

    No code was published, so this is our reading of the method, and figures of the paper need not hold. Ours are the
    choices to divide the saliency by its mean, ``grid`` 8, ``temperature`` 1, and to sum the p as they are and not
    squared. The gradient is looked at in eval mode. Where the sides are no multiple of the grid, neighbouring cells
    share the pixels of their border for the saliency, but not for the mask.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; published rows have 1.
        per: 'sample' for one lam each (the method), 'batch' for one a batch; coins are always each sample's.
        pairing: 'permutation', 'derangement' or 'flip'.
        saliency: 'gradient' for the root mean square over the channels of the gradient of the network's loss by the
            pixels (a pass forward and back), or 'spectral' for the spectral residual, which needs no network.
        grid: cells along each side, at least 2; no more than there are pixels.
        temperature: T, above 0; small ones let the most salient cells count alone.
    """

    label = 'semantic'
    paper = 'https://arxiv.org/abs/2112.08796'

    def __init__(
        self,
        alpha: float = 1.0,
        per: str = 'sample',
        pairing: str = 'permutation',
        saliency: str = 'gradient',
        grid: int = 8,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(alpha, per, pairing)
        if saliency not in SALIENCIES:
            hint = did_you_mean(saliency, SALIENCIES)
            raise InputError(f'SaliencyGrafting(saliency={saliency!r}){hint}: expected one of {", ".join(SALIENCIES)}.')
        if not is_whole(grid, 2):
            raise InputError(f'SaliencyGrafting(grid={grid!r}): expected a whole number of cells, at least 2.')
        if not is_number(temperature, 1e-3, 1e3):
            raise InputError(f'SaliencyGrafting(temperature={temperature!r}): expected a number from 0.001 to 1000.')
        self.saliency, self.grid, self.temperature = saliency, grid, temperature

    @property
    def operators(self) -> int:  # type: ignore[override]
        """By the saliency: the spectral residual has a Fourier transform and more."""
        return OPERATORS[self.saliency]

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The input gradient, if that is the saliency."""
        return ('input_grad',) if self.saliency == 'gradient' else ()

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """Choose cells, paste and weigh."""
        images, size = batch.images, len(batch)
        height, width = images.shape[-2:]
        rows, columns = min(self.grid, height), min(self.grid, width)
        coins = (torch.rand(size, rows, columns, generator=ctx.rng) >= lam.float()[:, None, None]).float()
        index, coins = to_device(images.device, pair_index(partner), coins)
        with torch.no_grad():
            shares = self.shares(batch, (rows, columns), ctx)
            own, other = shares[:size], shares.index_select(0, index[:, 1])
            pasted = coins * (other * (rows * columns) >= 1 - ROUNDING)
            kept_mass = 1 - (own * pasted).sum((1, 2))
            weight = kept_mass.clamp_(min=0) / (kept_mass + (other * pasted).sum((1, 2)))
            kept = F.interpolate((1 - pasted)[:, None], size=(height, width), mode='nearest')
        donors = batch.source_images.index_select(0, index[:, 1])
        mixed = blended(images, donors, kept.to(images.dtype))
        return View(mixed, Mixture(index, torch.stack([weight, 1 - weight], 1)), lambda: own_masks(kept, size))

    @torch.no_grad()
    def shares(self, batch: Batch, grid: tuple[int, int], ctx: Context) -> Tensor:
        """(S, rows, columns) float32 shares of the saliency of all sources, which sum to 1 each."""
        if self.saliency == 'gradient':
            maps = gradient_saliency(ctx.probe.input_grad(batch.source_images, batch.source_labels))
        else:
            maps = spectral_residual(batch.source_images, ctx.std, full=False)
        cells = F.adaptive_avg_pool2d(maps, grid).flatten(1).add_(TINY)
        relative = cells / (cells.mean(1, keepdim=True) * self.temperature)
        return relative.softmax(1).view(-1, *grid)
