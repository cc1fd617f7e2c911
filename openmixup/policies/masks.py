"""Where a picture shows through: pure tensor functions, one mask per batch or per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from openmixup.policies.transfer import to_device

__all__ = [
    'Box', 'Boxes', 'Outer', 'blended', 'cutmix_box', 'cutmix_boxes', 'gaussian_bump', 'gaussian_bumps', 'inner_boxes',
    'own_masks',
]  # fmt: skip

Side = Sequence[float] | np.ndarray


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
        if len(self) == 1:
            return torch.tensor([self.share()], dtype=torch.float64)
        return 1 - (self.high - self.low).prod(1, dtype=torch.float64) / (height * width)

    @cached_property
    def ends(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of the only box (b = 1): first row inside and first behind, and the same of the columns."""
        (top, left), (bottom, right) = self.low[0].tolist(), self.high[0].tolist()
        return (top, bottom), (left, right)

    def share(self) -> float:
        """Share of the pixels outside the only box (b = 1)."""
        (top, bottom), (left, right) = self.ends
        height, width = self.size
        return 1 - (bottom - top) * (right - left) / (height * width)

    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the only box (b = 1)."""
        down, across = self.ends
        return slice(*down), slice(*across)

    def lines(self, inside: float = 1.0) -> tuple[list[float], list[float]]:
        """H and W numbers of the only box (b = 1): ``inside`` in its rows, 1 in its columns, else 0."""
        rows, columns = (
            [0.0] * start + [value] * (stop - start) + [0.0] * (length - stop)
            for (start, stop), value, length in zip(self.ends, (inside, 1.0), self.size, strict=True)
        )
        return rows, columns

    def sides(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(b, H) and (b, W) on the CPU: 1 in the rows and columns of the box, else 0; their product is the box."""
        height, width = self.size
        if len(self) == 1:
            rows, columns = self.lines()
            return torch.tensor([rows], dtype=dtype), torch.tensor([columns], dtype=dtype)
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


class Box(Boxes):
    """One box for the batch, in plain numbers, which cost a fraction of tensors; those are made when asked for.

    Args:
        ends: of rows and columns, as :attr:`Boxes.ends`.
        size: (H, W) of the images in pixels.
    """

    def __init__(self, ends: tuple[tuple[int, int], tuple[int, int]], size: tuple[int, int]) -> None:
        vars(self).update(ends=ends, size=size)

    def __len__(self) -> int:
        """One."""
        return 1

    @cached_property
    def low(self) -> Tensor:
        """(1, 2) as of :class:`Boxes`."""
        return torch.tensor([[start for start, _ in self.ends]])

    @cached_property
    def high(self) -> Tensor:
        """(1, 2) as of :class:`Boxes`."""
        return torch.tensor([[stop for _, stop in self.ends]])


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

    @classmethod
    def one(cls, base: float, rows: Side, columns: Side) -> Outer:
        """One mask a batch, of numbers; by way of NumPy in a fraction of the time that ``torch.tensor`` takes."""
        return cls(*(torch.from_numpy(np.array([part], np.float32)) for part in (base, rows, columns)))

    def __len__(self) -> int:
        """b, the number of masks."""
        return self.base.shape[0]

    def share(self) -> float:
        """Mean share of the own image in the only mask (b = 1)."""
        (rows,), (columns,) = self.rows.tolist(), self.columns.tolist()
        return self.base.item() + sum(rows) / len(rows) * (sum(columns) / len(columns))

    def kept(self) -> Tensor:
        """(b,) float64, mean share of the own image."""
        if len(self) == 1:
            return torch.tensor([self.share()], dtype=torch.float64)
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
    if lam.shape[0] == 1:
        return cutmix_box(lam.item(), size, rng)
    places = torch.rand(len(lam), 2, generator=rng, dtype=torch.float64)
    limit = torch.tensor(size)
    centre = (places * limit).long()
    half = ((1 - lam).sqrt()[:, None] * limit).long() // 2
    return Boxes((centre - half).clamp_(min=0), torch.minimum(centre + half, limit), size)


def cutmix_box(lam: float, size: tuple[int, int], rng: torch.Generator) -> Box:
    """:func:`cutmix_boxes` of one lam, in plain numbers."""
    side = math.sqrt(1 - lam)
    places = torch.rand(2, generator=rng, dtype=torch.float64).tolist()
    (row, half_height), (column, half_width) = (
        (int(place * length), int(side * length) // 2) for place, length in zip(places, size, strict=True)
    )
    down = max(row - half_height, 0), min(row + half_height, size[0])
    across = max(column - half_width, 0), min(column + half_width, size[1])
    return Box((down, across), size)


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
    centres = (places * torch.tensor(size)).floor_()
    distance = torch.arange(max(size)) - centres[:, :, None]  # (b, 2, longer side)
    bumps = (distance.square_() * (-0.5 / variance[:, None, None])).exp_().float()
    return bumps[:, 0, : size[0]], bumps[:, 1, : size[1]]


def gaussian_bump(variance: float, size: tuple[int, int], rng: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """:func:`gaussian_bumps` of one variance, (H,) and (W,) in NumPy."""
    places, scale = torch.rand(2, generator=rng, dtype=torch.float64).tolist(), -0.5 / variance
    rows, columns = (
        np.exp(scale * (np.arange(length) - int(place * length)) ** 2.0)
        for place, length in zip(places, size, strict=True)
    )
    return rows, columns


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
