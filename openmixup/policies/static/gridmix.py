"""GridMix (Baek et al., Pattern Recognition 2021)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openmixup.checks import is_number, is_range, is_whole
from openmixup.errors import InputError
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.masks import Outer
from openmixup.policies.mixture import Batch
from openmixup.registry import POLICIES

__all__ = ['GridMix']


@POLICIES.register_module()
class GridMix(MaskPolicy):
    """Let the partner show through holes on a regular grid in a part of the image; the labels follow their area.

    The part is a rectangle of ``area * H * W`` pixels with height / width = ``aspect``, at a uniform place. Cells of it
    are ``ceil(width / holes)`` pixels wide and ``hole_aspect`` times as high, at least 2 pixels, and the hole in the
    upper left corner of each has sqrt(1 - lam) of its sides, at least 1 pixel and at least 1 less than the cell.

    This is the form of the public GridMixup package, in which published comparisons ran, with the ranges and alpha of
    those. The paper, as reported, chooses cells of a grid by chance and adds a loss for each cell; neither is here. A
    rectangle that is longer than the image is cut to it; in code of others its holes got lost there.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; the published tables use 0.2, and 1 for vision transformers.
        per: 'batch' for one grid a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
        holes: (fewest, most) cells in a row of the rectangle, at least 1; drawn evenly.
        hole_aspect: height / width of a cell, above 0.
        area: (least, greatest) share of the image that the rectangle has, above 0 and at most 1; drawn evenly.
        aspect: (least, greatest) height / width of the rectangle, above 0; drawn evenly.
    """

    paper = 'https://doi.org/10.1016/j.patcog.2020.107594'
    exempt = {
        'every_pixel_has_its_turn': 'holes lie in the upper left corners of their cells, so left and right differ',
    }

    def __init__(
        self,
        alpha: float = 0.2,
        per: str = 'batch',
        pairing: str = 'permutation',
        holes: tuple[int, int] = (2, 6),
        hole_aspect: float = 1.0,
        area: tuple[float, float] = (0.5, 1.0),
        aspect: tuple[float, float] = (0.5, 2.0),
    ) -> None:
        super().__init__(alpha, per, pairing)
        if not is_range(holes, 1) or not all(is_whole(number) for number in holes):
            raise InputError(f'GridMix(holes={holes!r}): expected (fewest, most), whole numbers of at least 1.')
        if not is_number(hole_aspect, 0.01, 100):
            raise InputError(f'GridMix(hole_aspect={hole_aspect!r}): expected a number from 0.01 to 100.')
        if not is_range(area, 0.01, 1):
            raise InputError(f'GridMix(area={area!r}): expected (least, greatest), shares from 0.01 to 1.')
        if not is_range(aspect, 0.01, 100):
            raise InputError(f'GridMix(aspect={aspect!r}): expected (least, greatest), numbers from 0.01 to 100.')
        self.holes, self.hole_aspect, self.area, self.aspect = holes, hole_aspect, area, aspect

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Outer:  # noqa: ARG002
        """One grid a batch or a sample."""
        height, width = batch.images.shape[-2:]
        chance = torch.rand(len(lam), 5, generator=ctx.rng, dtype=torch.float64)
        if len(lam) == 1:  # the same without tensors
            down, across = self._grid(lam.item(), chance[0].tolist(), (height, width))
            return Outer.one(1.0, -down, across)
        shown = self._grids(lam, chance, (height, width)).float()  # (N, 2, longer side)
        rows, columns = shown[:, 0, :height], shown[:, 1, :width]
        return Outer(torch.ones(len(lam)), -rows, columns)

    def _grid(self, lam: float, chance: list[float], size: tuple[int, int]) -> list[np.ndarray]:
        """(H,) and (W,): 1 in the rows and in the columns that have holes, else 0."""
        area, aspect, holes = self._shape(*chance[:3])
        share, lines = math.sqrt(1 - lam), []
        part = [
            min(max(int(math.sqrt(area * ratio * (size[0] * size[1]))), 1), length)
            for ratio, length in zip((aspect, 1 / aspect), size, strict=True)
        ]
        across = math.ceil(part[1] / int(holes))
        for length, place, extent, side in zip(
            size, chance[3:], part, (across * self.hole_aspect, across), strict=True
        ):
            cell, start = max(int(side), 2), int(place * (length - extent + 1))
            hole = min(max(int(cell * share), 1), cell - 1)
            line = np.zeros(length, np.float32)
            line[start : start + extent] = np.arange(extent) % cell < hole
            lines.append(line)
        return lines

    def _grids(self, lam: Tensor, chance: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 2, longer side) whether there are holes in each row and in each column."""
        area, aspect, holes = self._shape(*chance[:, :3].unbind(1))
        limit, share = torch.tensor(size), (1 - lam).sqrt()[:, None]
        ratio = torch.stack([aspect, 1 / aspect], 1)
        part = torch.minimum((area[:, None] * ratio * (size[0] * size[1])).sqrt().long().clamp_(min=1), limit)
        across = (part[:, 1] / holes.floor()).ceil()
        cell = torch.stack([across * self.hole_aspect, across], 1).long().clamp_(min=2)
        hole = torch.minimum((cell * share).long().clamp_(min=1), cell - 1)
        start = (chance[:, 3:] * (limit - part + 1)).long()
        at = torch.arange(max(size)) - start[:, :, None]
        return (at >= 0) & (at < part[:, :, None]) & (at % cell[:, :, None] < hole[:, :, None])

    def _shape(self, area: Any, aspect: Any, holes: Any) -> tuple[Any, Any, Any]:
        """Three chances in [0, 1), numbers or tensors, to their ranges; the number of holes is to be rounded down."""
        limits = self.area, self.aspect, (self.holes[0], self.holes[1] + 1)
        drawn = zip((area, aspect, holes), limits, strict=True)
        area, aspect, holes = (low + chance * (high - low) for chance, (low, high) in drawn)
        return area, aspect, holes
