"""The moves of PuzzleMix: salient patches go where a mask shows their image. Pure batched tensor functions.

Nothing is read from the device: the number of turns is fixed, and tables of a grid are made once and kept.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from openmixup.policies.transfer import to_device

__all__ = ['Board', 'Tiles', 'sources', 'turns']

REACH = 4  # cells that a patch may travel; so many neighbours are the bits of one float64
MOST_TURNS = 8
FINEST_TILES = 16  # a side, as the finest grid of the authors
UNIT = 2**40  # whole numbers are compared, so that equal costs are told apart, by the row, on every device alike
EXPONENT_BIAS, EXPONENT_SHIFT, EXPONENT_BITS = 1023, 52, 0x7FF << 52  # of a float64
NOBODY = 2**52  # times the number of cells: above any claim


def turns(grid: tuple[int, int]) -> int:
    """Turns that :func:`sources` takes: one for each cell along the longer side, at most 8."""
    return min(max(grid), MOST_TURNS)


@torch.no_grad()
def sources(saliency: Tensor, shown: Tensor, t_eps: float) -> Tensor:
    """(..., h, w) int64: for each cell, from which cell of the image its patch comes.

    A patch i in a cell j costs t_eps * |i - j|^2 / (side - 1)^2, less its saliency if the cell is shown. Each patch
    asks for its cheapest cell, a cell keeps the cheapest patch that asked, and the others ask for their next one. A
    cell that is shown is first asked by its own patch, so it has exactly one source at any time; cells that are not
    shown keep their own patch.

    The cheapest of the cells that are shown is the nearest one. So the cells that a patch may still ask for are the
    bits of one number, nearer ones higher: the exponent of the number is the next cell to ask for.

    Args:
        saliency: (..., h, w) of the patches, at least 0; of an image it should sum to 1.
        shown: (..., h, w) above 0 where the mask shows the image.
        t_eps: price of a move.
    """
    grid = (saliency.shape[-2], saliency.shape[-1])
    tables = _tables(grid, t_eps, saliency.device)
    cells = len(tables.own)
    saliency, seen = saliency.reshape(-1, cells), shown.reshape(-1, cells) > 0
    key = (saliency * -UNIT).long().mul_(cells).add_(tables.own)
    unasked = seen.double() @ tables.bits
    number = unasked.view(torch.int64)
    holder = (tables.own + NOBODY * cells).repeat(len(key), 1)
    for _ in range(turns(grid)):
        rank = (number >> EXPONENT_SHIFT).flatten()
        asked = tables.step.index_select(0, rank).view_as(key).add_(tables.own)
        claim = tables.fare.index_select(0, rank).view_as(key).add_(key)
        holder.scatter_reduce_(1, asked, claim, 'amin')
        lost = holder.gather(1, asked) < claim
        unasked.sub_((number & EXPONENT_BITS).view(torch.float64).mul_(lost))
    return holder.remainder_(cells).view(shown.shape)


@dataclass(frozen=True, eq=False)
class _Tables:
    """What is known of a grid before any saliency is.

    Args:
        bits: (cells, cells) float64, place of each cell (row) in the number of each patch (column).
        step: from a patch to the cell that it asks, by the exponent of its number, int64.
        fare: price of that step, in whole units times the number of cells, int64.
        own: (cells,) all cells, int64.
    """

    bits: Tensor
    step: Tensor
    fare: Tensor
    own: Tensor


@functools.lru_cache(maxsize=64)
def _tables(grid: tuple[int, int], t_eps: float, device: torch.device) -> _Tables:
    """Made on the CPU once for each grid and copied.

    A number is 0 if no cell is left to ask for: at the exponent 0 a patch asks its own place, for a fare above any
    saliency.
    """
    height, width = grid
    cells = torch.arange(height * width)
    row, column = cells // width, cells % width
    disc = sorted(
        (down * down + across * across, down, across)
        for down in range(-min(REACH, height - 1), min(REACH, height - 1) + 1)
        for across in range(-min(REACH, width - 1), min(REACH, width - 1) + 1)
        if down * down + across * across <= REACH * REACH
    )
    side = max(height, width) - 1
    bits = torch.zeros(len(cells), len(cells), dtype=torch.float64)
    step = torch.zeros(EXPONENT_BIAS + len(disc) + 1, dtype=torch.int64)
    fare = torch.full_like(step, (2 * UNIT + math.ceil(2 * t_eps * UNIT)) * len(cells))
    for place, (squared, down, across) in enumerate(disc):
        exponent = len(disc) - place
        inside = (row + down >= 0) & (row + down < height) & (column + across >= 0) & (column + across < width)
        bits[cells[inside] + down * width + across, cells[inside]] = 2.0**exponent
        step[EXPONENT_BIAS + exponent] = down * width + across
        fare[EXPONENT_BIAS + exponent] = round(t_eps * squared / side**2 * UNIT) * len(cells)
    return _Tables(*to_device(device, bits, step, fare, cells))


@dataclass(frozen=True)
class Tiles:
    """A grid of patches over images, all of one size.

    Where the grid does not divide the image, patches differ by a pixel; they are cut as windows of the greater size,
    which overlap there, and put back without the overlap.

    Args:
        grid: patches along the height and the width.
        size: (H, W) of the images in pixels, not below ``grid``.
    """

    grid: tuple[int, int]
    size: tuple[int, int]

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return -(-self.size[0] // self.grid[0]), -(-self.size[1] // self.grid[1])

    def widened(self, images: Tensor) -> Tensor:
        """Images (..., H, W) in which the windows lie side by side; the images themselves if the grid divides them."""
        for dim, count, length in zip((-2, -1), self.grid, self.size, strict=True):
            if length % count:
                images = images.index_select(dim, _windows(length, count, images.device)[0])
        return images

    def narrowed(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`widened`."""
        for dim, count, length in zip((-2, -1), self.grid, self.size, strict=True):
            if length % count:
                images = images.index_select(dim, _windows(length, count, images.device)[1])
        return images

    def cut(self, widened: Tensor) -> Tensor:
        """(N * h * w, C * patch) patches as rows, of widened images (N, C, ., .)."""
        (height, width), (down, across) = self.grid, self.patch
        parts = widened.reshape(len(widened), -1, height, down, width, across)
        return parts.permute(0, 2, 4, 1, 3, 5).reshape(len(widened) * height * width, -1)

    def joined(self, rows: Tensor, channels: int) -> Tensor:
        """(N, C, H, W) images of such rows."""
        (height, width), (down, across) = self.grid, self.patch
        parts = rows.view(-1, height, width, channels, down, across).permute(0, 3, 1, 4, 2, 5)
        return self.narrowed(parts.reshape(-1, channels, height * down, width * across))

    def pixels(self, cells: Tensor) -> Tensor:
        """(N, H, W) values of cells (N, h, w) at their pixels."""
        for dim, count, length in zip((-2, -1), self.grid, self.size, strict=True):
            cells = cells.index_select(dim, _owners(length, count, cells.device))
        return cells

    def mean(self, cells: Tensor) -> Tensor:
        """(N,) mean over the pixels of cells (N, h, w)."""
        if all(length % count == 0 for count, length in zip(self.grid, self.size, strict=True)):
            return cells.mean((1, 2))
        return (cells * _areas(self.grid, self.size, cells.device)).sum((1, 2)) / (self.size[0] * self.size[1])


@dataclass(frozen=True)
class Board:
    """The grid of a mask, and the finer one of the patches that may be moved.

    Args:
        grid: cells along the height and the width.
        split: patches along the height and the width of a cell.
        tiles: the patches.
        points: colours along each side of a cell that are compared at borders.
    """

    grid: tuple[int, int]
    split: tuple[int, int]
    tiles: Tiles
    points: int

    @classmethod
    def of(cls, size: tuple[int, int], side: int, t_size: int | None, points: int) -> Board:
        """A board for images.

        Args:
            size: (H, W) of the images in pixels, at least 2.
            side: cells along each side; less where the image has fewer pixels.
            t_size: least side of a patch in pixels; None or -1: whole cells.
            points: colours along each side of a cell; less where a cell has fewer pixels.
        """
        grid = (min(side, size[0]), min(side, size[1]))
        down, across = (_parts(length // count, count, t_size) for length, count in zip(size, grid, strict=True))
        tiles = Tiles((grid[0] * down, grid[1] * across), size)
        return cls(grid, (down, across), tiles, min(points, tiles.patch[0] * down, tiles.patch[1] * across))


def _parts(block: int, count: int, t_size: int | None) -> int:
    """Patches along one side of a cell of ``block`` pixels, of which there are ``count``; all equal if they can be."""
    if t_size is None or t_size == -1:
        return 1
    most = min(block // t_size, FINEST_TILES // count)
    return next((parts for parts in range(most, 1, -1) if block % parts == 0), 1)


@functools.lru_cache(maxsize=256)
def _owners(length: int, count: int, device: torch.device) -> Tensor:
    """(length,) cell of each pixel along one side."""
    return to_device(device, torch.arange(length) * count // length)[0]


@functools.lru_cache(maxsize=256)
def _windows(length: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixels of all windows along one side, (count * window,), and where among them each pixel is, (length,)."""
    owner = torch.arange(length) * count // length
    start = (torch.arange(count) * length + count - 1) // count
    window = -(-length // count)
    pixel = (start[:, None] + torch.arange(window)).clamp_(max=length - 1).flatten()
    place, pixel = to_device(device, owner * window + torch.arange(length) - start[owner], pixel)
    return pixel, place


@functools.lru_cache(maxsize=64)
def _areas(grid: tuple[int, int], size: tuple[int, int], device: torch.device) -> Tensor:
    """(h, w) float32 pixels of each cell; whole numbers, so that sums of them are exact."""
    down, across = (
        torch.bincount(torch.arange(length) * count // length, minlength=count).float()
        for count, length in zip(grid, size, strict=True)
    )
    return to_device(device, down[:, None] * across)[0]
