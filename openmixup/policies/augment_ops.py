"""Operations of PIL on a batch, each image with an operation and a strength of its own.

Images are float32 (M, C, H, W) in levels from 0 to 255, of any number of channels. What is drawn lies on the CPU and
says which images an operation concerns, so that each is computed for these only; nothing is read from the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    'LEAST_LEVEL', 'OPERATIONS', 'TOP_LEVEL', 'Layer', 'amounts', 'drawn_operations', 'fixed_tables', 'matrices',
    'measured_tables', 'warp',
]  # fmt: skip

OPERATIONS = (
    'autocontrast', 'equalize', 'posterize', 'solarize', 'rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y',
)  # fmt: skip
AUTOCONTRAST, EQUALIZE, POSTERIZE, SOLARIZE, ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = range(9)
LEAST_LEVEL, TOP_LEVEL = 0.1, 10  # of the scale of AugMix


@dataclass(frozen=True, eq=False)
class Layer:
    """One operation for each of some images of a batch.

    Args:
        measured: how many images are autocontrasted and how many are equalised: the first ones of ``toned``.
        toned: (T,) int64 places of the images whose levels are replaced one by one.
        tables: (T - sum(measured), 256) what each level becomes in the others of ``toned``.
        moved: (G,) int64 places of the images that are warped.
        matrices: (G, 2, 3) for :func:`warp`.
    """

    measured: tuple[int, int]
    toned: Tensor
    tables: Tensor
    moved: Tensor
    matrices: Tensor

    @classmethod
    def drawn(cls, places: Tensor, kind: Tensor, amount: Tensor, size: tuple[int, int]) -> Layer:
        """A layer on the CPU.

        Args:
            places: (P,) int64 of the images that get an operation, no place twice.
            kind: (P,) int64 which of ``OPERATIONS``.
            amount: (P,) float64 the strength as :func:`fixed_tables` and :func:`matrices` want it.
            size: height and width of the images.
        """
        order = kind.argsort(stable=True)
        places, kind, amount = places[order], kind[order], amount[order]
        auto, measured, toned = (int((kind < end).sum()) for end in (EQUALIZE, POSTERIZE, ROTATE))
        tables = fixed_tables(kind[measured:toned], amount[measured:toned])
        moves = matrices(kind[toned:], amount[toned:], size)
        return cls((auto, measured - auto), places[:toned], tables, places[toned:], moves)

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What :meth:`apply` needs on the device of the images."""
        return self.toned, self.tables, self.moved, self.matrices

    def apply(self, images: Tensor, toned: Tensor, tables: Tensor, moved: Tensor, matrices: Tensor) -> None:
        """Overwrite the images (M, C, H, W); the other arguments are :meth:`parts` on their device."""
        if len(moved):
            images.index_copy_(0, moved, warp(images.index_select(0, moved), matrices))
        if len(toned):
            levels = images.index_select(0, toned).flatten(2).round_().long()
            auto, count = self.measured[0], sum(self.measured)
            found = [tables[:, None].expand(-1, images.shape[1], -1)] if len(tables) else []
            if count:
                found.insert(0, measured_tables(levels[:count], auto))
            replaced = torch.cat(found).gather(2, levels)
            images.index_copy_(0, toned, replaced.view(-1, *images.shape[1:]))


def drawn_operations(
    shape: tuple[int, ...], severity: float, size: tuple[int, int], rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Operations, drawn evenly, and their strengths by a level that is uniform in [0.1, severity], of any shape.

    Args:
        shape: of both.
        severity: from 0.1 to 10.
        size: height and width of the images.
        rng: generator of the CPU.
    """
    kind = torch.randint(len(OPERATIONS), shape, generator=rng)
    draw = torch.rand(2, *shape, generator=rng, dtype=torch.float64)
    amount = amounts(kind, LEAST_LEVEL + (severity - LEAST_LEVEL) * draw[0], size)
    return kind, torch.where((kind >= ROTATE) & (draw[1] > 0.5), -amount, amount)


def amounts(kind: Tensor, level: Tensor, size: tuple[int, int]) -> Tensor:
    """Strengths of operations ``kind`` at ``level``, both of any shape, on images of ``size`` (H, W)."""
    height, width = size
    top = torch.tensor([0, 0, 4, 256, 30, 0.3, 0.3, width / 3, height / 3], dtype=torch.float64)
    amount = level * top[kind] / TOP_LEVEL
    return torch.where((kind == SHEAR_X) | (kind == SHEAR_Y), amount, amount.trunc())


def measured_tables(levels: Tensor, auto: int) -> Tensor:
    """(M, C, 256) float32 what each level becomes when the first ``auto`` images are autocontrasted, others equalised.

    Both stretch the levels of each channel: the first straight from the lowest and the highest one to 0 and 255, the
    second so that all are equally frequent. A channel with nothing to stretch stays. Levels are as in PIL, but for some
    of autocontrast that are whole before rounding: there PIL's rounding errors take one off now and then.

    Args:
        levels: (M, C, P) int64 in 0..255 of the P pixels.
        auto: number of images.
    """
    one = torch.ones((), dtype=torch.int32, device=levels.device)
    count = one.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, one.expand_as(levels))
    upto = count.cumsum(2, dtype=torch.int32)
    short = upto < levels.shape[2]  # below the highest level of the channel
    level = torch.arange(256, dtype=torch.int32, device=levels.device)
    low = (upto[:auto] == 0).sum(2, keepdim=True, dtype=torch.int32)
    high = short[:auto].sum(2, keepdim=True, dtype=torch.int32)
    step = (upto * short)[auto:].amax(2, keepdim=True).div(255, rounding_mode='floor')  # pixels for a level
    before = (upto - count)[auto:]
    top = torch.cat([(level - low) * 255, before + step.div(2, rounding_mode='floor')])
    by = torch.cat([high - low, step])
    stretched = top.div(by.clamp_min(1), rounding_mode='floor').clamp_(0, 255)
    return torch.where(by > 0, stretched, level).float()


def fixed_tables(kind: Tensor, amount: Tensor) -> Tensor:
    """(P, 256) float32 what each level becomes by an operation that needs no look at the image.

    Args:
        kind: (P,) POSTERIZE or SOLARIZE.
        amount: (P,) bits that are lost beyond four, or 256 less the level from which on levels are inverted.
    """
    level, amount = torch.arange(256.0, dtype=torch.float64), amount[:, None]
    step = 2 ** (4 + amount)
    posterized = (level / step).floor() * step
    solarized = torch.where(level < 256 - amount, level, 255 - level)
    return torch.where(kind[:, None] == POSTERIZE, posterized, solarized).float()


def matrices(kind: Tensor, amount: Tensor, size: tuple[int, int]) -> Tensor:
    """(P, 2, 3) float32 for :func:`warp`.

    Args:
        kind: (P,) ROTATE and those behind it.
        amount: (P,) degrees about the centre; pixels of shear for each pixel from the top or left; pixels of shift.
        size: height and width.
    """
    height, width = size
    matrix = torch.eye(2, 3, dtype=torch.float64).repeat(len(kind), 1, 1)
    is_kind = {number: kind == number for number in range(ROTATE, len(OPERATIONS))}
    angle = torch.deg2rad(amount * is_kind[ROTATE])
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 0, 1] = (amount * is_kind[SHEAR_X] - angle.sin()) * (height / width)
    matrix[:, 1, 0] = (amount * is_kind[SHEAR_Y] + angle.sin()) * (width / height)
    matrix[:, 0, 2] = amount * (is_kind[SHEAR_X] * (height / width) + is_kind[TRANSLATE_X] * (2 / width))
    matrix[:, 1, 2] = amount * (is_kind[SHEAR_Y] * (width / height) + is_kind[TRANSLATE_Y] * (2 / height))
    return matrix.float()


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """(M, C, H, W) read, by bilinear interpolation, at the place that an affine map gives each output pixel.

    Beyond the image is 0. Coordinates go from -1 at the left and upper border to 1 at the right and lower one.

    Args:
        images: (M, C, H, W).
        matrices: (M, 2, 3) from (x, y, 1) of the output to (x, y) of the input.
    """
    down, across = (
        torch.linspace(1 / length - 1, 1 - 1 / length, length, device=images.device)[:, None]
        for length in images.shape[2:]
    )
    by_x, by_y, shift = matrices[:, None].unbind(3)  # each (M, 1, 2)
    grid = (down * by_y)[:, :, None] + torch.addcmul(shift, across, by_x)[:, None]
    return F.grid_sample(images, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
