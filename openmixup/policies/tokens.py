"""Masks on a grid of cells, such as the patches of a transformer: pure tensor functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.errors import InputError
from openmixup.policies.masks import blended, own_masks
from openmixup.policies.mixture import Batch, Mixture, View

__all__ = ['best_cells', 'block_cells', 'cell_view', 'enlarged', 'patch_grid', 'random_cells', 'token_grid']

TRIES = 10
ASPECT = 0.3  # least ratio of the sides of a block, and 1 over the greatest


def token_grid(count: int, image_size: Sequence[int]) -> tuple[int, int]:
    """(rows, columns) of ``count`` patches of an image (H, W).

    Raises:
        InputError: they form no rectangle of the image's proportions.
    """
    height, width = image_size
    rows = round(math.sqrt(count * height / width))
    if rows == 0 or count % rows:
        raise InputError(
            f'{count} tokens form no grid for an image of {height}x{width}: use images whose sides are whole numbers '
            'of patches.'
        )
    return rows, count // rows


def patch_grid(count: int, prefix: int, image_size: Sequence[int]) -> tuple[int, tuple[int, int]]:
    """How many of ``count`` tokens stand in front of the patches, and (rows, columns) of these, for an image (H, W).

    Of some networks (CaiT, XCiT) the class token joins in the last blocks only, so that none is in front before.

    Args:
        count: number of tokens.
        prefix: how many stand in front at the end of the network.
        image_size: (H, W).

    Raises:
        InputError: neither all tokens nor those behind the prefix form a grid.
    """
    try:
        return prefix, token_grid(count - prefix, image_size)
    except InputError:
        return 0, token_grid(count, image_size)


def enlarged(cells: Tensor, images: Tensor) -> Tensor:
    """(b, H, W) cells (b, h, w) in the size and of the type of images (N, C, H, W): each pixel is as its cell."""
    size = images.shape[-2:]
    if cells.shape[1:] == size:
        return cells.to(images.dtype)
    return F.interpolate(cells[:, None], size=size, mode='nearest-exact')[:, 0].to(images.dtype)


def cell_view(batch: Batch, index: Tensor, cells: Tensor) -> View:
    """The own image in some cells and the partner in the others; weights are the measured shares of the pixels.

    Args:
        batch: the sources.
        index: (N, 2) each sample and its partner, on the device of the images.
        cells: (1 or N, h, w) float32, there too: 1 where the own image stays, else 0.
    """
    images, size = batch.images, len(batch)
    own = enlarged(cells, images)
    share = own.mean((1, 2), dtype=torch.float32)
    weight = torch.stack([share, 1 - share], 1).expand(size, 2)
    donors = batch.source_images.index_select(0, index[:, 1])
    mixed = blended(images, donors, own[:, None])
    return View(mixed, Mixture(index, weight), lambda: own_masks(own[:, None], size))


def random_cells(count: Tensor, rows: int, rng: torch.Generator, grid: tuple[int, int]) -> Tensor:
    """(rows, h, w) float32 on the CPU: 1 in ``count`` cells at random places, other ones in each row, else 0.

    Args:
        count: (1,) or (rows,) number of cells, on the CPU.
        rows: number of masks.
        rng: CPU generator.
        grid: (h, w).
    """
    height, width = grid
    ranks = torch.rand(rows, height * width, generator=rng).argsort(1)  # a random order is its own inverse in law
    return (ranks < count[:, None]).float().view(rows, height, width)


def block_cells(count: Tensor, rng: torch.Generator, grid: tuple[int, int]) -> Tensor:
    """(b, h, w) float32 on the CPU: 1 in at most ``count`` cells that random rectangles cover, else 0.

    Rectangles are laid one after the other. Each has an area drawn evenly between 1 and what is left of the count and
    sides of a ratio between 0.3 and 1 / 0.3, evenly in its logarithm. It is taken if it is smaller than the grid in
    both directions and covers between one and as many new cells as are left. A mask is ready when its count is reached
    or ten tries in a row failed, and so may have fewer cells.

    After Bao et al., BEiT, ICLR 2022, by the description in the paper, for many masks at once.

    Args:
        count: (b,) int64 on the CPU, greatest number of cells.
        rng: CPU generator.
        grid: (h, w).
    """
    if len(count) == 1:  # the same in plain numbers, at a tenth of the time
        return _one_block_mask(int(count), rng, grid)
    height, width = grid
    down, across = torch.arange(height), torch.arange(width)
    taken = torch.zeros(len(count), height, width, dtype=torch.bool)
    left, misses = count.clone(), torch.zeros_like(count)
    low, spread = math.log(ASPECT), -2 * math.log(ASPECT)
    while bool(((left > 0) & (misses < TRIES)).any()):
        area, ratio, top, start = torch.rand(4, len(count), generator=rng, dtype=torch.float64)
        area, ratio = 1 + area * (left - 1), torch.exp(low + ratio * spread)
        rows, columns = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        top, start = (top * (height - rows + 1)).long(), (start * (width - columns + 1)).long()
        inside_rows = (down >= top[:, None]) & (down < (top + rows)[:, None])
        inside_columns = (across >= start[:, None]) & (across < (start + columns)[:, None])
        new = inside_rows[:, :, None] & inside_columns[:, None] & ~taken
        gained = new.sum((1, 2))
        fits = (rows < max(height, 2)) & (columns < max(width, 2)) & (misses < TRIES)
        accepted = fits & (gained >= 1) & (gained <= left)
        taken |= new & accepted[:, None, None]
        left -= gained * accepted
        misses = (misses + 1) * ~accepted
    return taken.float()


def _one_block_mask(left: int, rng: torch.Generator, grid: tuple[int, int]) -> Tensor:
    """(1, h, w) as :func:`block_cells` has it; a row of the mask is a number whose bits are its cells."""
    height, width = grid
    taken, misses = [0] * height, 0
    low, spread = math.log(ASPECT), -2 * math.log(ASPECT)
    while left > 0 and misses < TRIES:
        area, ratio, top, start = torch.rand(4, 1, generator=rng, dtype=torch.float64)[:, 0].tolist()
        area, ratio = 1 + area * (left - 1), math.exp(low + ratio * spread)
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        misses += 1
        if rows >= max(height, 2) or columns >= max(width, 2):
            continue
        first, bits = int(top * (height - rows + 1)), ((1 << columns) - 1) << int(start * (width - columns + 1))
        gained = sum((bits & ~row).bit_count() for row in taken[first : first + rows])
        if 1 <= gained <= left:
            taken[first : first + rows] = [row | bits for row in taken[first : first + rows]]
            left, misses = left - gained, 0
    return torch.tensor([[[float(row >> place & 1) for place in range(width)] for row in taken]])


def best_cells(scores: Tensor, count: Tensor) -> Tensor:
    """(N, h, w) float32: 1 in the cells of the highest scores, else 0; of equal ones the first.

    Args:
        scores: (N, h, w), on any device.
        count: (1 or N, h * w) float32 on the same device: 1 for the ranks that are wanted, best first, then 0.
    """
    ranked = scores.flatten(1).argsort(stable=True, dim=1, descending=True)
    cells = torch.empty_like(ranked, dtype=torch.float32).scatter_(1, ranked, count.expand(len(scores), -1))
    return cells.view(scores.shape)
