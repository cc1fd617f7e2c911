"""Where a picture shows through: pure tensor functions, one mask per batch or per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openmixup.policies.transfer import to_device

__all__ = ['Boxes', 'Outer', 'blended', 'cutmix_boxes', 'gaussian_bumps', 'inner_boxes', 'own_masks']


@dataclass(frozen=True, eq=False)
class Boxes:
    """Rectangles that are taken from the partner: one for the batch (b = 1) or one per sample (b = N).

    Args:
        low: (b, 2) int64 on the CPU, first row and column inside.
        high: (b, 2) int64 on the CPU, first row and column behind; not below ``low``.
        size: (H, W) of the images in pixels.
    """

    low: Tensor
    high: Tensor
    size: tuple[int, int]

    def __len__(self) -> int:
        """b, the number of boxes."""
        return self.low.shape[0]

    def kept(self) -> Tensor:
        """(b,) float64, share of the pixels outside the box: the weight of the own image."""
        height, width = self.size
        if len(self) == 1:  # plain numbers cost a fraction of tensors
            (top, left), (bottom, right) = self.low[0].tolist(), self.high[0].tolist()
            inside = (bottom - top) * (right - left)
            return torch.tensor([1 - inside / (height * width)], dtype=torch.float64)
        return 1 - (self.high - self.low).prod(1, dtype=torch.float64) / (height * width)

    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the only box (b = 1)."""
        (top, left), (bottom, right) = self.low[0].tolist(), self.high[0].tolist()
        return slice(top, bottom), slice(left, right)

    def sides(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(b, H) and (b, W) on the CPU: 1 in the rows and columns of the box, else 0; their product is the box."""
        height, width = self.size
        if len(self) == 1:  # two fills cost less than comparisons
            lines = torch.zeros(1, height, dtype=dtype), torch.zeros(1, width, dtype=dtype)
            for line, part in zip(lines, self.slices(), strict=True):
                line[:, part] = 1
            return lines
        at = torch.arange(max(self.size))
        inside = ((at >= self.low[:, :, None]) & (at < self.high[:, :, None])).to(dtype)  # (b, 2, longer side)
        return inside[:, 0, :height], inside[:, 1, :width]

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Those of the own share, as :meth:`Outer.parts`."""
        rows, columns = self.sides(torch.float32)
        return Outer(torch.ones(len(self)), -rows, columns).parts()

    def dense(self, like: Tensor) -> Tensor:
        """(b, 1, H, W) on the device and of the type of ``like``: 1 inside the box, else 0."""
        rows, columns = self.sides(like.dtype)
        (dense,) = to_device(like.device, rows[:, None, :, None] * columns[:, None, None, :])
        return dense


@dataclass(frozen=True, eq=False)
class Outer:
    """Masks that are products of their sides: the own share at a pixel is base + rows * columns, in [0, 1].

    Only the sides are drawn, measured and copied to the device, not the pixels. All are float32 on the CPU.

    Args:
        base: (b,) for one mask a batch (b = 1) or one a sample (b = N).
        rows: (b, H).
        columns: (b, W).
    """

    base: Tensor
    rows: Tensor
    columns: Tensor

    def kept(self) -> Tensor:
        """(b,) float64, mean share of the own image."""
        if self.base.shape[0] == 1:  # plain numbers cost a fraction of tensors
            sides = [side[0].tolist() for side in (self.rows, self.columns)]
            inside = math.prod(sum(side) / len(side) for side in sides)
            return torch.tensor([self.base.item() + inside], dtype=torch.float64)
        rows, columns = (side.mean(1, dtype=torch.float64) for side in (self.rows, self.columns))
        return self.base + rows * columns

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """(b, 1, 1, 1), (b, 1, H, 1) and (b, 1, 1, W), of which ``torch.addcmul`` makes the own share."""
        count = self.base.shape[0]
        return self.base.view(count, 1, 1, 1), self.rows.view(count, 1, -1, 1), self.columns.view(count, 1, 1, -1)


def cutmix_boxes(lam: Tensor, size: tuple[int, int], rng: torch.Generator) -> Boxes:
    """Boxes of CutMix: area share 1 - lam before clipping, centre uniform over the pixels, clipped to the image.

    Args:
        lam: (b,) float64 on the CPU, drawn share of the own image.
        size: (H, W) in pixels.
        rng: CPU generator.

    Source: Yun et al., CutMix, ICCV 2019; half the side is rounded down to whole pixels as in the authors' code.
    """
    places = torch.rand(len(lam), 2, generator=rng, dtype=torch.float64)
    if lam.shape[0] == 1:  # the same in plain numbers
        return _cutmix_box(lam.item(), places[0].tolist(), size)
    limit = torch.tensor(size)
    centre = (places * limit).long()
    half = ((1 - lam).sqrt()[:, None] * limit).long() // 2
    return Boxes((centre - half).clamp_(min=0), torch.minimum(centre + half, limit), size)


def _cutmix_box(lam: float, places: list[float], size: tuple[int, int]) -> Boxes:
    side, low, high = math.sqrt(1 - lam), [], []
    for place, length in zip(places, size, strict=True):
        centre, half = int(place * length), int(side * length) // 2
        low.append(max(centre - half, 0))
        high.append(min(centre + half, length))
    return Boxes(torch.tensor([low]), torch.tensor([high]), size)


def inner_boxes(
    count: int, sides: Sequence[float], size: tuple[int, int], rng: torch.Generator, greatest: bool = True
) -> Boxes:
    """Boxes that lie in the image: height and width uniform over a range of whole pixels, then the place over all.

    Args:
        count: b, number of boxes.
        sides: least and greatest side as a share of the image's.
        size: (H, W) in pixels.
        rng: CPU generator.
        greatest: whether the greatest side itself is drawn; where it is the least one too, it is.
    """
    draw = torch.rand(2, count, 2, generator=rng, dtype=torch.float64)
    least, most = (torch.tensor([int(length * share) for length in size]) for share in sides)
    number = (most - least + greatest).clamp(min=1)
    side = least + (draw[0] * number).long()
    low = (draw[1] * (torch.tensor(size) - side + 1)).long()
    return Boxes(low, low + side, size)


def gaussian_bumps(variance: Tensor, size: tuple[int, int], rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(b, H) and (b, W) float32, sides of exp(-r^2 / (2 variance)), r the distance from a uniformly drawn pixel.

    Args:
        variance: (b,) float64 on the CPU in square pixels, above 0.
        size: (H, W) in pixels.
        rng: CPU generator.
    """
    places = torch.rand(len(variance), 2, generator=rng, dtype=torch.float64)
    if variance.shape[0] == 1:  # the same in plain numbers
        scale, sides = -0.5 / variance.item(), []
        for place, length in zip(places[0].tolist(), size, strict=True):
            centre = int(place * length)
            sides += [math.exp(scale * (at - centre) ** 2) for at in range(length)]
        rows, columns = torch.tensor([sides]).split(size, 1)
        return rows, columns
    centres = (places * torch.tensor(size)).floor_()
    distance = torch.arange(max(size)) - centres[:, :, None]  # (b, 2, longer side)
    bumps = (distance.square_() * (-0.5 / variance[:, None, None])).exp_().float()
    return bumps[:, 0, : size[0]], bumps[:, 1, : size[1]]


def blended(images: Tensor, donors: Tensor, own: Tensor) -> Tensor:
    """(N, C, H, W) own * images + (1 - own) * donors; written into ``donors`` where no gradient is asked for.

    Args:
        images: (N, C, H, W) own images.
        donors: (N, C, H, W) what shows elsewhere, a new tensor that may be overwritten.
        own: (1 or N, 1, H, W) share of the own image, of the type of the images.
    """
    if any(tensor.requires_grad for tensor in (images, own, donors)):
        return torch.lerp(donors, images, own)
    return donors.lerp_(images, own)


def own_masks(own: Tensor, size: int) -> Tensor:
    """(N, 2, H, W) shares of both sources from the own share (1 or N, 1, H, W)."""
    return torch.cat([own, 1 - own], 1).expand(size, -1, -1, -1)
