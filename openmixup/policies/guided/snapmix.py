"""SnapMix (Huang, Wang and Tao, AAAI 2021)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import PairPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.masks import Boxes, blended, cutmix_boxes, own_masks
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import pair_index
from openmixup.policies.precision import arithmetic
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['SnapMix']

SAME_CLASS = ('double', 'once')
TINY = 1e-12  # added to each pixel: a flat map becomes an even one


@POLICIES.register_module()
class SnapMix(PairPolicy):
    r"""Paste a box of the partner, resized, into another box, and weigh both labels by class activation maps.

    Two boxes are drawn as in CutMix, each with a lam of its own: :math:`a` in the own image, :math:`b` in the partner.
    What is in :math:`b` is resized to :math:`a` bilinearly, corner pixels on corner pixels. With :math:`S` the class
    activation map of an image for its own label, resized to the image, less its minimum and scaled to the sum 1, the
    weights are :math:`w_a = 1 - \sum_a S_a` and :math:`w_b = \sum_b S_b`, which need not sum to one. A flat map weighs
    by area. If one of the boxes has no pixel, nothing is mixed.

    The map is that of the clean images in eval mode; the authors compute it in training mode. It is made of the
    last feature map, of which the authors cut off negative values; behind a last ReLU there are none. A norm behind the
    pooling, as in ConvNeXt, is passed over. The authors' further classifier on a middle stage is not there.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; a box has the area 1 - lam before it is clipped. The paper uses 5.
        per: 'batch' for one pair of boxes a batch (the authors' code), 'sample' for one each; maps are each sample's.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
        prob: probability that a batch is mixed; the authors fine-tune with 1 and train from scratch with 0.5.
        same_class: of two images of one class both get the sum of the weights, which makes twice the sum ('double', the
            authors' code), or half of it each ('once').
    """

    label = 'semantic'
    normalised = False
    needs = ('cam',)
    operators = 34
    paper = 'https://arxiv.org/abs/2012.04846'
    exempt = {
        'pixels_stay_in_place': 'the box of the partner is resized and moved',
        'identical_images_stay_identical': 'the box of the partner is resized and moved',
    }

    def __init__(
        self,
        alpha: float = 5.0,
        per: str = 'batch',
        pairing: str = 'permutation',
        prob: float = 1.0,
        same_class: str = 'double',
    ) -> None:
        super().__init__(alpha, per, pairing)
        if not is_number(prob, 0, 1):
            raise InputError(f'SnapMix(prob={prob!r}): expected a probability from 0 to 1.')
        if same_class not in SAME_CLASS:
            raise InputError(
                f"SnapMix(same_class={same_class!r}): expected 'double' (the authors' code) or 'once' (half as much)."
            )
        self.prob, self.same_class = prob, same_class

    @property
    def rate(self) -> float:
        """Probability that a batch is mixed."""
        return float(self.prob)

    def bind(self, network: Network) -> None:
        """Refuse labels that are no class, for which there is no map."""
        if network.target != 'class':
            raise InputError(
                f'SnapMix looks where a network sees the class of an image, but the target is {network.target}: choose '
                'another policy.'
            )

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Mixed, or as it is; the choice is the same on all ranks."""
        if self.prob < 1 and float(torch.rand((), generator=ctx.shared_rng)) >= self.prob:
            return self.unmixed(batch)
        return super().plan(batch, ctx)

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """Resize, paste and weigh."""
        sources, size = batch.source_images, len(batch)
        height, width = sources.shape[-2:]
        into = cutmix_boxes(lam, (height, width), ctx.rng)
        out_of = cutmix_boxes(self.draw_lam(len(lam), ctx.rng), (height, width), ctx.rng)
        index, rows, columns, there, down, across = to_device(
            sources.device, pair_index(partner), *_inside(into, out_of), *_places(into, out_of)
        )
        donors = _resampled(sources.index_select(0, index[:, 1]), down, across)
        own = 1 - rows[0][:, None, :, None] * columns[0][:, None, None, :]
        mixed = blended(batch.images, donors, own.to(sources.dtype))
        weight = self._weights(batch, index, rows, columns, there, ctx)
        return View(mixed, Mixture(index, weight), lambda: own_masks(own, size))

    @torch.no_grad()
    def _weights(
        self, batch: Batch, index: Tensor, rows: Tensor, columns: Tensor, there: Tensor, ctx: Context
    ) -> Tensor:
        """(N, 2) float32 weights of the own image and the partner.

        Args:
            batch: the sources.
            index: (N, 2) the pairs.
            rows: (2, b, H) those of both boxes.
            columns: (2, b, W).
            there: (b, 1) 1 if there are boxes.
            ctx: access to the network.
        """
        labels = batch.source_labels
        maps = self.maps(batch, ctx)
        pairs = maps.index_select(0, index.t().flatten()).view(2, len(index), *maps.shape[1:])
        within = ((pairs * rows[..., None]).sum(2) * columns).sum(2)  # (2, N) share of the map in the box
        weight = torch.stack([1 - within[0], within[1]], 1).clamp_(min=0)
        first, second = labels.index_select(0, index.t().flatten()).view(2, -1)
        same = (first == second)[:, None] * there
        if self.same_class == 'double':
            return torch.addcmul(weight, weight.flip(1), same)
        return torch.lerp(weight, weight.mean(1, keepdim=True), same)

    @torch.no_grad()
    def maps(self, batch: Batch, ctx: Context) -> Tensor:
        """(S, H, W) float32 class activation maps of all sources for their own labels, at least 0, with the sum 1."""
        cam: Any = ctx.probe.cam(batch.source_images, batch.source_labels)
        cells = cam.float() - cam.amin((1, 2), keepdim=True)  # first, so that a flat map is exactly 0 when resized
        maps = F.interpolate(cells[:, None], size=batch.images.shape[-2:], mode='bilinear')[:, 0]
        maps = (maps - maps.amin((1, 2), keepdim=True)).add_(TINY)
        return maps / maps.sum((1, 2), keepdim=True)


def _inside(into: Boxes, out_of: Boxes) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (2, b, H) and columns (2, b, W) of both boxes, on the CPU: 1 inside, 0 elsewhere and if either is empty.

    Behind them (b, 1): 1 if neither of the two is empty, else 0.
    """
    there = ((into.high > into.low) & (out_of.high > out_of.low)).all(1, keepdim=True).float()
    rows, columns = zip(into.sides(torch.float32), out_of.sides(torch.float32), strict=True)
    return torch.stack(rows) * there, torch.stack(columns) * there, there


def _places(into: Boxes, out_of: Boxes) -> tuple[Tensor, Tensor]:
    """(b, H) and (b, W) float32 on the CPU, from -1 to 1: what row and column of the partner those of ``into`` show."""
    limit = torch.tensor(into.size, dtype=torch.float64) - 1
    at = torch.arange(max(into.size))
    last = [(box.high - 1 - box.low).clamp_(min=0).double() for box in (into, out_of)]
    step = last[1] / last[0].clamp(min=1)  # a box of one row shows the first one
    place = out_of.low[:, :, None] + (at - into.low[:, :, None]) * step[:, :, None]  # (b, 2, longer side)
    place = (place * 2 / limit.clamp(min=1)[:, None] - 1).float()
    return place[:, 0, : into.size[0]], place[:, 1, : into.size[1]]


def _resampled(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """(N, C, H, W) images whose pixel (i, j) is what lies at (down[i], across[j]), bilinearly."""
    height, width = images.shape[-2:]
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), 3)
    wide = images.to(torch.promote_types(images.dtype, torch.float32))  # places of large images need its digits
    grid = grid.expand(len(images), height, width, 2).to(wide.dtype)
    with arithmetic(images.device):
        return F.grid_sample(wide, grid, padding_mode='border', align_corners=True).to(images.dtype)
