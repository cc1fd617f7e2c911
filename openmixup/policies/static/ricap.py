"""RICAP (Takahashi et al., ACML 2018)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['RICAP']


class Layout(NamedTuple):
    """Where the four images of a sample show and what of them, for b = 1 or N samples; all of it on the CPU.

    Args:
        low: (b, 4, 2) int64 first row and column of the patch of each image; the own image comes first.
        high: (b, 4, 2) first row and column behind it.
        start: (b, 4, 2) first row and column that is cropped from that image.
        first: (b,) in which quarter the own image is, 0 to 3 row by row; the others follow, and then from 0 on.
        point: (b, 2) row and column at which the image is divided.
    """

    low: Tensor
    high: Tensor
    start: Tensor
    first: Tensor
    point: Tensor


@POLICIES.register_module()
class RICAP(MixPolicy):
    """Patch crops of four images around a random point; the labels follow the areas of the patches.

    The image is divided at row h = round(H * u) and column w = round(W * v), u and v ~ Beta(beta, beta). Each patch is
    a crop from a random place of its image. As in the authors' code three partners come from a permutation each, so an
    image may be in a sample twice.

    Deviation: the authors permute all four images, here the own one comes first in the mixture and is in a random
    quarter, which is the same up to the order of the batch.

    Args:
        beta: of the law of the dividing point, above 0. The paper uses 0.3.
        per: 'batch' for one layout a batch (the authors' code), 'sample' for one each, which costs more memory: 8 bytes
            for each value of the batch.
    """

    operators = 6
    paper = 'https://arxiv.org/abs/1811.09030'
    exempt = {
        'pixels_stay_in_place': 'a crop from anywhere in an image is pasted into its quarter',
        'identical_images_stay_identical': 'four crops of an image do not make that image',
    }

    def __init__(self, beta: float = 0.3, per: str = 'batch') -> None:
        super().__init__()
        if not is_number(beta) or not 0.01 <= beta < 1e4:
            raise InputError(f'RICAP(beta={beta!r}): expected a number from 0.01 to 10000, as of Beta(beta, beta).')
        if per not in ('batch', 'sample'):
            raise InputError(f"RICAP(per={per!r}): expected 'batch' (one layout a batch) or 'sample' (one each).")
        self.beta, self.per = beta, per

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Draw partners and layout on the CPU, then paste."""
        images, size = batch.images, len(batch)
        height, width = images.shape[-2:]
        others = [torch.randperm(size, generator=ctx.rng) for _ in range(3)]
        index = torch.stack([torch.arange(size), *others], 1)
        layout = self.layout(size if self.per == 'sample' else 1, (height, width), ctx.rng)
        area = (layout.high - layout.low).prod(2, dtype=torch.float64) / (height * width)
        weight = area.float().expand(size, 4).contiguous()
        if self.per == 'batch':
            index, weight = to_device(images.device, index, weight)
            mixed = _pasted(images, index, layout)
        else:
            index, weight, *table = to_device(images.device, index, weight, *_table(images, index, layout))
            offset, below, right = table
            samples = torch.arange(size, device=images.device)[:, None, None]
            inside = torch.arange(images[0].numel(), device=images.device).view(images.shape[1:])
            mixed = images.take(offset[samples, below, right][:, None] + inside)
        view = View(mixed, Mixture(index, weight), lambda: _masks(images, layout))
        return Plan(batch, (view,), self)

    def layout(self, count: int, size: tuple[int, int], rng: torch.Generator) -> Layout:
        """``count`` random layouts of images of ``size`` (H, W)."""
        law = torch.full((count * 2, 2), float(self.beta), dtype=torch.float64)
        limit = torch.tensor(size)
        point = (torch._sample_dirichlet(law, generator=rng)[:, 0].view(count, 2) * limit).round().long()
        first = torch.randint(4, (count,), generator=rng)
        quarter = (first[:, None] + torch.arange(4)) % 4  # of the own image and its partners
        behind = torch.stack([quarter // 2, quarter % 2], 2)  # below, and to the right
        low = point[:, None] * behind
        high = torch.where(behind == 1, limit, point[:, None])
        room = limit - (high - low) + 1
        start = (torch.rand(low.shape, generator=rng, dtype=torch.float64) * room).long()
        return Layout(low, high, start, first, point)


def _pasted(images: Tensor, index: Tensor, layout: Layout) -> Tensor:
    """(N, C, H, W) by the only layout: one slice for each of the four images."""
    mixed = torch.empty_like(images)
    boxes = zip(*(part[0].tolist() for part in layout[:3]), strict=True)
    for column, ((top, left), (bottom, right), (down, across)) in enumerate(boxes):
        taken = images[:, :, down : down + bottom - top, across : across + right - left]
        place = mixed[:, :, top:bottom, left:right]
        if column == 0:
            place.copy_(taken)
        elif images.requires_grad:
            place.copy_(taken.index_select(0, index[:, column]))
        else:
            torch.index_select(taken, 0, index[:, column], out=place)
    return mixed


def _table(images: Tensor, index: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    """For each quarter the way to the value that takes a place, (N, 2, 2); who is below (N, H, 1), right (N, 1, W)."""
    height, width = images.shape[-2:]
    down, across = (layout.start - layout.low).unbind(2)
    offset = index * images[0].numel() + down * width + across
    column = (torch.arange(4) - layout.first[:, None]) % 4  # of the image in each quarter
    below, right = (torch.arange(length) >= layout.point[:, axis, None] for axis, length in enumerate((height, width)))
    return offset.gather(1, column).view(-1, 2, 2), below.long()[:, :, None], right.long()[:, None, :]


def _masks(images: Tensor, layout: Layout) -> Tensor:
    """(N, 4, H, W) 1 in the patch of each image."""
    rows, columns = (
        ((torch.arange(length) >= layout.low[..., axis, None]) & (torch.arange(length) < layout.high[..., axis, None]))
        for axis, length in enumerate(images.shape[-2:])
    )
    (masks,) = to_device(images.device, (rows[..., :, None] & columns[..., None, :]).to(images.dtype))
    return masks.expand(len(images), -1, -1, -1)
