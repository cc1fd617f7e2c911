"""Single image operations with a strength of its own for each sample, for :class:`RandAugment` and ``ColorJitter``.

Each follows the operation of PIL of the same name, in uint8; the tests compare them. Nothing here draws or reads from
the device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    'apply_tables', 'autocontrast', 'brightness_tables', 'color', 'contrast', 'equalize', 'invert_tables',
    'posterize_tables', 'sharpness', 'solarize_add_tables', 'solarize_tables', 'warp',
]  # fmt: skip

_SOLARIZE_ADD_BELOW = 128


def _per_sample(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1)."""
    return values[:, None, None, None]


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """``degenerate + factor * (images - degenerate)``, cut to whole numbers of 0..255 as PIL cuts them."""
    mixed = degenerate + _per_sample(factor) * (images - degenerate)
    return mixed.clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """(N, C, H, W) uint8 -> (N, 1, H, W) float32, whole numbers; the luma of ITU-R 601 for three channels."""
    pixels = images.float()
    if images.shape[1] != 3:
        return pixels.mean(1, keepdim=True).round_()
    red, green, blue = pixels.split(1, 1)
    return (red * 19595 + green * 38470 + blue * 7471 + 32768).div_(65536).floor_()


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Saturation: 0 gives grey, 1 the image; uint8 (N, C, H, W), factor (N,)."""
    return _blend(_grey(images).expand(images.shape), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Contrast: 0 gives the mean grey of each image, 1 the image; uint8 (N, C, H, W), factor (N,)."""
    mean = (_grey(images).mean((1, 2, 3), keepdim=True) + 0.5).floor_()
    return _blend(mean.expand(images.shape), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Sharpness: 0 gives the image smoothed by a 3x3 filter, 1 the image; uint8 (N, C, H, W), factor (N,).

    The border of one pixel stays; so do images with a side below 3.
    """
    if min(images.shape[2:]) < 3:
        return images
    smooth = images.float().clone()
    inner = smooth[:, :, 1:-1, 1:-1]
    sums = F.avg_pool2d(smooth, 3, 1, divisor_override=1)
    inner.copy_(((sums + 4 * inner) / 13 + 0.5).floor_())
    return _blend(smooth, images, factor)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image to 0..255; one without contrast stays. uint8 (N, C, H, W)."""
    low, high = (bound[:, :, None, None].int() for bound in images.flatten(2).aminmax(dim=2))
    flat = (high == low).int()  # such a channel: no shift, and a scale of 255 / 255
    stretched = (images.int() - low * (1 - flat)) * 255
    return stretched.div_(high - low + 255 * flat, rounding_mode='floor').to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Equalise the histogram of each channel of each image, by torchvision. uint8 (N, C, H, W)."""
    from torchvision.transforms.v2 import functional

    return functional.equalize(images)


def invert_tables(count: int) -> Tensor:
    """(count, 256) uint8: 255 - value."""
    return torch.arange(255, -1, -1, dtype=torch.uint8).repeat(count, 1)


def posterize_tables(bits: Tensor) -> Tensor:
    """(N, 256) uint8: the highest ``bits`` (N,), 0 to 8, of each value."""
    step = 2 ** (8 - bits.long())[:, None]
    return (torch.arange(256) // step * step).to(torch.uint8)


def solarize_tables(threshold: Tensor) -> Tensor:
    """(N, 256) uint8: values of at least ``threshold`` (N,) are inverted."""
    value = torch.arange(256)
    return torch.where(value < threshold[:, None], value, 255 - value).to(torch.uint8)


def solarize_add_tables(added: Tensor) -> Tensor:
    """(N, 256) uint8: ``added`` (N,) is added to the values below 128."""
    value = torch.arange(256)
    raised = (value + added.long()[:, None]).clamp_(max=255)
    return torch.where(value < _SOLARIZE_ADD_BELOW, raised, value).to(torch.uint8)


def brightness_tables(factor: Tensor) -> Tensor:
    """(N, 256) uint8: value times ``factor`` (N,)."""
    return (torch.arange(256.0) * factor.float()[:, None]).clamp_(0, 255).to(torch.uint8)


def apply_tables(images: Tensor, tables: Tensor) -> Tensor:
    """Replace each value by that of the sample's table: uint8 (N, C, H, W), (N, 256) -> uint8 (N, C, H, W)."""
    return tables.gather(1, images.flatten(1).long()).view(images.shape)


def warp(images: Tensor, matrix: Tensor, fill: Tensor, interpolation: str) -> Tensor:
    """Read each output pixel at the place that an affine map gives it.

    Args:
        images: uint8 (N, C, H, W).
        matrix: (N, 2, 3) float32; (x, y) of the output, with pixel centres at halves, to (x, y) of the input.
        fill: (C,) or (1,) float32, the value beyond the image.
        interpolation: 'bilinear' or 'bicubic' (cubic with a = -0.75).

    Returns:
        uint8 (N, C, H, W).
    """
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=torch.float32, device=images.device) + 0.5
    y = (torch.arange(height, dtype=torch.float32, device=images.device) + 0.5)[:, None]
    (a, b, c), (d, e, f) = (row[:, :, None, None].unbind(1) for row in matrix.unbind(1))
    there_x, there_y = a * x + b * y + c, d * x + e * y + f
    grid = torch.stack([there_x * (2 / width) - 1, there_y * (2 / height) - 1], -1)
    read = F.grid_sample(images.float(), grid, mode=interpolation, padding_mode='border', align_corners=False)
    inside = (there_x >= 0) & (there_x < width) & (there_y >= 0) & (there_y < height)
    beyond = fill[:, None, None].expand(images.shape)
    return torch.lerp(beyond, read, inside[:, None].float()).round_().clamp_(0, 255).to(torch.uint8)
