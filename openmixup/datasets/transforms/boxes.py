"""Random boxes of a given relative area and aspect ratio, drawn on the CPU."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

__all__ = ['draw_boxes']


def draw_boxes(
    count: int,
    frame: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: Generator,
    largest: tuple[int, int] | None = None,
    attempts: int = 10,
) -> tuple[Tensor, Tensor]:
    """Draw one box for each sample, in the manner of torchvision: up to ``attempts`` tries, the first that fits.

    The area is uniform in ``scale`` times the frame, the logarithm of width / height uniform in that of ``ratio``, and
    the place uniform.

    Args:
        count: number of boxes.
        frame: height and width that a box lies in, in pixels.
        scale: least and greatest share of the frame's area.
        ratio: least and greatest width / height.
        rng: CPU generator; 3 numbers a try and sample are taken, whether they are used or not.
        largest: greatest height and width of a box; by default those of the frame.
        attempts: number of tries.

    Returns:
        Boxes (count, 4) int64: top, left, height, width; and (count,) bool, whether any try did fit. The box of a
        sample that has none is meaningless.
    """
    height, width = frame
    tallest, widest = largest or frame
    area_draw, ratio_draw, place = torch.rand(3, count, attempts, generator=rng, dtype=torch.float64)
    area = (scale[0] + area_draw * (scale[1] - scale[0])) * (height * width)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + ratio_draw * (high - low))
    widths = (area * aspect).sqrt().round().long()
    heights = (area / aspect).sqrt().round().long()
    fits = (widths >= 1) & (heights >= 1) & (widths <= widest) & (heights <= tallest)
    tries = torch.where(fits, torch.arange(attempts), attempts).amin(1)
    found = tries < attempts
    chosen = tries.clamp(max=attempts - 1)[:, None]
    h, w = heights.gather(1, chosen)[:, 0], widths.gather(1, chosen)[:, 0]
    # one number gives both coordinates: the cell of the grid of all places that it falls into
    rows, columns = (height - h + 1).clamp(min=1), (width - w + 1).clamp(min=1)
    cell = (place.gather(1, chosen)[:, 0] * (rows * columns)).long()
    return torch.stack([cell // columns, cell % columns, h, w], 1), found
