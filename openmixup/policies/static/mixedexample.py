"""Mixed-Example (Summers and Dinneen, WACV 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from openmixup.checks import is_number
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.masks import Boxes, Outer, blended, own_masks
from openmixup.policies.mixture import Batch, Mixture, View
from openmixup.policies.pairing import pair_index, pair_weights
from openmixup.policies.precision import arithmetic
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['VARIANTS', 'MixedExample']

LABELS = {'noisy_mixup': 'drawn', 'bc_plus': 'drawn', 'vh_bc_plus': 'semantic'}
BOXED = ('vertical_concat', 'horizontal_concat', 'random_square', 'random_row_interval', 'random_column_interval')
LINED = ('random_rows', 'random_columns', 'mixed_concat', 'random_2x2')
FREE = ('random_pixels', 'random_elements', 'noisy_mixup', 'bc_plus', 'vh_bc_plus')
VARIANTS = (*BOXED, *LINED, *FREE)
CORNERS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@POLICIES.register_module()
class MixedExample(MaskPolicy):
    r"""Combine two images by halves, quadrants, stripes, single pixels or noise; labels follow what is left of each.

    With lam, a and b ~ Beta(alpha, alpha), rounded to whole pixels where they are lengths, ``variant`` is one of

    - 'vertical_concat': the own image above, on the share lam of the rows; 'horizontal_concat': at the left;
    - 'mixed_concat': of the quadrants around row lam H and column a W the own image has the upper left and the lower
      right one; 'random_2x2': each quadrant is of either image by chance;
    - 'random_square': the partner shows in a square at a random place;
    - 'random_row_interval', 'random_column_interval': the partner shows in a run of neighbouring lines;
    - 'random_rows', 'random_columns', 'random_pixels': each line or pixel is the own one with probability lam;
    - 'random_elements': the same for each channel of each pixel; the labels follow the share of all elements;
    - 'noisy_mixup': Mixup with a lam for each pixel, to which normal noise is added, cut to [0, 1]; labels weigh lam;
    - 'bc_plus': Between-Class learning (Tokozume et al., CVPR 2018). With means m and deviations s of the whole images
      and :math:`p = 1 / (1 + \frac{s_1}{s_2} \frac{1 - lam}{lam})` the picture is :math:`(p (x_1 - m_1) + (1 - p) (x_2
      - m_2)) / \sqrt{p^2 + (1 - p)^2}`; labels weigh lam;
    - 'vh_bc_plus': VH-Mixup, whose blended quadrants are those of 'bc_plus'; labels by the rule of ``VHMixup``.

    Other members of the family are policies of their own: ``Mixup`` and ``VHMixup``. For several of them use
    ``RandomChoice``.

    Deviations: labels are the measured shares where pixels are chosen. 'bc_plus' adds the mean lam m_1 + (1 - lam) m_2
    again, since images are not freed of theirs in evaluation. Written from memory and not checked against the authors'
    code: how an interval is drawn (here the partner has the share 1 - lam of the lines, at any place), size of the
    square and that it is never cut, the even chances of 'random_2x2', size of the noise.

    Args:
        variant: as above.
        alpha: of the Beta law of the shares, above 0. From memory, 1 in the paper.
        per: 'batch' for one draw a batch, 'sample' for one each.
        pairing: 'permutation', 'derangement' (no image meets itself) or 'flip'.
        side: of the square of 'random_square', as a share of the shorter image side, above 0 and at most 1; 16 of 32.
        noise: standard deviation for 'noisy_mixup', from 0 to 1.
    """

    paper = 'https://arxiv.org/abs/1805.11272'
    exempt = {
        'every_pixel_has_its_turn': 'the own image is always upper left and lower right, as in the paper',
        'weights_follow_lam': 'the own image has two opposite quadrants, whose share is 1/2 in the mean for any lam',
    }

    def __init__(
        self,
        variant: str = 'mixed_concat',
        alpha: float = 1.0,
        per: str = 'batch',
        pairing: str = 'permutation',
        side: float = 0.5,
        noise: float = 0.025,
    ) -> None:
        super().__init__(alpha, per, pairing)
        if variant not in VARIANTS:
            hint = did_you_mean(str(variant), VARIANTS)
            raise InputError(f'MixedExample(variant={variant!r}){hint}: expected one of {", ".join(VARIANTS)}.')
        if not is_number(side) or not 0 < side <= 1:
            raise InputError(f'MixedExample(side={side!r}): expected a share of the image side, above 0 to 1.')
        if not is_number(noise, 0, 1):
            raise InputError(f'MixedExample(noise={noise!r}): expected a standard deviation from 0 to 1.')
        self.variant, self.side, self.noise = variant, side, noise

    @property
    def label(self) -> str:  # type: ignore[override]
        """'pixels' of most variants, 'drawn' of those that blend, 'semantic' of 'vh_bc_plus'."""
        return LABELS.get(self.variant, 'pixels')

    @property
    def operators(self) -> int:  # type: ignore[override]
        """26 for what looks at the contrast of the images, else 6."""
        return 26 if self.variant in ('bc_plus', 'vh_bc_plus') else 6

    @property
    def lam_beta(self) -> tuple[float, float] | None:
        """Both alpha; None for the square, which follows no lam."""
        return None if self.variant == 'random_square' else super().lam_beta

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """Paste or blend."""
        if self.variant == 'random_elements':
            return self._elements(batch, partner, lam, ctx)
        if self.variant in ('bc_plus', 'vh_bc_plus'):
            return self._between_classes(batch, partner, lam, ctx)
        return super().view(batch, partner, lam, ctx)

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Boxes | Outer | Tensor:  # noqa: ARG002
        """A box, sides or a mask."""
        height, width = size = batch.images.shape[-2:]
        if self.variant in BOXED:
            return self._box(lam, (height, width), ctx.rng)
        if self.variant in LINED:
            return self._lines(lam, (height, width), ctx, batch.images.device)
        if self.variant == 'noisy_mixup':
            noise = torch.randn(len(lam), *size, generator=ctx.rng)
            return noise.mul_(self.noise).add_(lam.float()[:, None, None]).clamp_(0, 1)
        return _chosen(lam, size, ctx.rng)

    def _box(self, lam: Tensor, size: tuple[int, int], rng: torch.Generator) -> Boxes:
        """Where the partner shows."""
        limit = torch.tensor(size).expand(len(lam), 2)
        low, high = torch.zeros_like(limit), limit.clone()
        if self.variant == 'random_square':
            side = max(round(self.side * min(size)), 1)
            place = torch.rand(len(lam), 2, generator=rng, dtype=torch.float64)
            low = (place * (limit - side + 1)).long()
            return Boxes(low, low + side, size)
        axis = 0 if self.variant in ('vertical_concat', 'random_row_interval') else 1
        own = (lam * size[axis]).round().long()
        if self.variant.endswith('concat'):
            low[:, axis] = own
        else:
            low[:, axis] = (torch.rand(len(lam), generator=rng, dtype=torch.float64) * (own + 1)).long()
            high[:, axis] -= own - low[:, axis]
        return Boxes(low, high, size)

    def _lines(self, lam: Tensor, size: tuple[int, int], ctx: Context, device: torch.device) -> Outer | Tensor:
        """Masks that are made of rows and columns."""
        zeros, ones = torch.zeros(len(lam)), [torch.ones(len(lam), length) for length in size]
        if self.variant == 'random_rows':
            return Outer(zeros, _chosen(lam, size[:1], ctx.rng), ones[1])
        if self.variant == 'random_columns':
            return Outer(zeros, ones[0], _chosen(lam, size[1:], ctx.rng))
        rows, columns = (
            _first(share, length) for share, length in zip((lam, self._drawn(lam, ctx)), size, strict=True)
        )
        if self.variant == 'mixed_concat':  # both first or both last
            return Outer(zeros + 0.5, rows - 0.5, 2 * columns - 1)
        quadrants = torch.rand(len(lam), 2, 2, generator=ctx.rng).round_()  # by rows and columns, the first ones behind
        lower, upper = (columns[:, None] * part[:, 1:, None] + (1 - columns[:, None]) * part[:, :1, None]
                        for part in quadrants.unbind(1))  # fmt: skip
        lower, change, rows = to_device(device, lower, upper - lower, rows[:, :, None])
        return torch.addcmul(lower, rows, change)

    def _elements(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """A mask for each channel."""
        images, size = batch.images, len(batch)
        own = _chosen(lam, images.shape[1:], ctx.rng)
        weight = pair_weights(own.mean((1, 2, 3)), size)
        index, weight, own = to_device(images.device, pair_index(partner), weight, own)
        mixed = blended(images, batch.source_images.index_select(0, index[:, 1]), own.to(images.dtype))
        return View(mixed, Mixture(index, weight), lambda: own_masks(own.mean(1, keepdim=True), size))

    def _between_classes(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """Quadrants upper left own, lower right the partner's, the others blended; for 'bc_plus' upper right alone."""
        sources, size = batch.source_images, len(batch)
        height, width = sources.shape[-2:]
        rows, columns = torch.ones(len(lam), height), torch.zeros(len(lam), width)
        weight = lam
        if self.variant == 'vh_bc_plus':
            rows, columns = (_first(self._drawn(lam, ctx), length) for length in (height, width))
            weight = lam * rows.mean(1) + (1 - lam) * columns.mean(1)
        shares = torch.stack([lam, 1 - lam, 1 - lam, lam], 1).view(-1, 2, 2).float()  # of both images in both blends
        sides = torch.stack([rows, 1 - rows], 2)[:, None], torch.stack([columns, 1 - columns], 1)[:, None]
        index, weight, shares, down, across, corners = to_device(
            sources.device, pair_index(partner), pair_weights(weight, size), shares, *sides, CORNERS
        )
        with torch.no_grad(), arithmetic(sources.device):
            table = _quadrants(sources, index, shares, corners)
            own, other, shift = (down @ table @ across).to(sources.dtype).split(1, 1)
        donors = sources.index_select(0, index[:, 1])
        return View(torch.addcmul(torch.addcmul(shift, other, donors), own, batch.images), Mixture(index, weight))

    def _drawn(self, lam: Tensor, ctx: Context) -> Tensor:
        """A further share like lam."""
        return self.draw_lam(len(lam), ctx.rng)


def _quadrants(sources: Tensor, index: Tensor, shares: Tensor, corners: Tensor) -> Tensor:
    """(N, 3, 2, 2) factor of the own image, that of the partner and what is added, by first and last rows and columns.

    Args:
        sources: (S, C, H, W).
        index: (N, 2) into them.
        shares: (1 or N, 2, 2) drawn weights of both in the upper right and in the lower left quadrant.
        corners: (2, 3) what the other quadrants have.
    """
    deviation, mean = torch.stack(torch.std_mean(sources.float().flatten(1), 1, correction=0))[:, index].unbind(0)
    # p is to 1 - p as lam s_2 is to (1 - lam) s_1, and what both are divided by makes the pair one of length one
    factors = functional.normalize(shares * deviation.flip(1)[:, None], dim=2)
    shift = ((shares - factors) * mean[:, None]).sum(2, keepdim=True)
    first, last = corners.expand(len(index), 1, 2, 3).unbind(2)
    return torch.cat([first, torch.cat([factors, shift], 2), last], 1).transpose(1, 2).unflatten(2, (2, 2))


def _first(share: Tensor, length: int) -> Tensor:
    """(b, length) 1 on the first ``share`` (b,) of a line, rounded to whole pixels, else 0."""
    return (torch.arange(length) < (share * length).round()[:, None]).float()


def _chosen(lam: Tensor, shape: Any, rng: torch.Generator) -> Tensor:
    """(b, *shape) 1 with probability ``lam`` (b,), else 0, each by a draw of its own."""
    draw = torch.rand(len(lam), *shape, generator=rng)
    return (draw < lam.float().view(-1, *[1] * len(shape))).float()
