"""Where pictures are salient: pure batched tensor functions on the device of the images.

Maps are float32, at least 0 and without gradient, whatever the type of the images, and are computed in full precision
also inside ``torch.autocast``. Constants of a picture size are made on the CPU once and copied.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.policies.precision import arithmetic
from openmixup.policies.transfer import to_device

__all__ = ['blur', 'fine_grained', 'gaussian_matrix', 'gradient_saliency', 'grey', 'peaks', 'spectral_residual']

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
FINE_SIDE = 64  # longest side in pixels that fine_grained looks at
FINE_RADII = (5, 10, 20)  # pixels of a picture whose longest side is FINE_SIDE
SPECTRAL_SIDE = 128
LEAST_MAGNITUDE = 1e-3  # below that of the steps of 8 bits, above that of rounding, which would else be enlarged


@torch.no_grad()
def grey(images: Tensor, std: Sequence[float] = ()) -> Tensor:
    """(N, H, W) brightness: the luma of three channels, else their mean.

    Args:
        images: (N, C, H, W), floating point.
        std: what the channels were divided by when they were normalised, so that the true brightness comes back but for
            a constant; () takes the channels as they are.
    """
    (weights,) = to_device(images.device, _channel_weights(images.shape[1], tuple(std)))
    with arithmetic(images.device):
        return _weighted(images, weights)


@torch.no_grad()
def blur(maps: Tensor, size: int = 7, sigma: float = 3.0) -> Tensor:
    """(N, h, w) means of maps under a square Gaussian window; the map is mirrored at its border pixels.

    Args:
        maps: (N, h, w), floating point.
        size: side of the window in pixels, odd.
        sigma: standard deviation in pixels.
    """
    rows, columns = to_device(maps.device, *(gaussian_matrix(side, size, sigma) for side in maps.shape[1:]))
    with arithmetic(maps.device):
        return rows @ maps.float() @ columns.mT


@functools.lru_cache(maxsize=64)
def gaussian_matrix(length: int, size: int, sigma: float) -> Tensor:
    """(L, L) on the CPU: row i has the weights of a Gaussian window around pixel i, mirrored at the border pixels.

    Args:
        length: L, pixels of a line.
        size: side of the window in pixels, odd.
        sigma: standard deviation in pixels.
    """
    offsets = torch.arange(size) - size // 2
    weights = (offsets.square() / (-2 * sigma**2)).exp()
    there_and_back = max(2 * (length - 1), 1)
    at = (torch.arange(length)[:, None] + offsets).abs() % there_and_back
    at = torch.minimum(at, there_and_back - at)
    return torch.zeros(length, length).scatter_add_(1, at, (weights / weights.sum()).expand(length, -1))


@torch.no_grad()
def fine_grained(images: Tensor, std: Sequence[float] = (), full: bool = True) -> Tensor:
    """Static fine-grained saliency: how much each pixel differs from its surround, summed over three scales.

    The difference of brightness to the mean of a square window is positive where a pixel is brighter ("on") or darker
    ("off") than its surround; both are added up over the windows, cut at the border. Pictures larger than 64 px are
    reduced to 64 px first (mean over areas, longest side); the windows have radii of 5, 10 and 20 px there, and
    proportionally less in smaller pictures, at least 1.

    After Montabone and Soto, Human detection using a mobile platform and novel features derived from a visual saliency
    mechanism, 2010, by the description of OpenCV's detector of this name, not by its code: it has six windows of fixed
    size, whatever the picture's.

    Args:
        images: (N, C, H, W), floating point.
        std: of the normalisation, as for :func:`grey`.
        full: bring a reduced map back to (H, W); False leaves it small.

    Returns:
        (N, H, W), or (N, h, w) with a longest side of at most 64 px.
    """
    height, width = small = _reduced(images.shape[-2:], FINE_SIDE)
    radii = _radii(max(small))
    weights, rows, columns = to_device(
        images.device,
        _channel_weights(images.shape[1], tuple(std)),
        _box_matrices(height, radii),
        _box_matrices(width, radii),
    )
    with arithmetic(images.device):
        centre = _resized(_weighted(images, weights), small, 'area')
        # window means along rows, then along columns: one product for all scales each
        along = centre.reshape(1, -1, width).expand(len(radii), -1, -1).bmm(columns.mT)
        surround = rows[:, None] @ along.view(len(radii), -1, height, width)
        maps = surround.sub_(centre).abs_().sum(0)  # on plus off is the absolute difference
        return _resized(maps, images.shape[-2:], 'bilinear') if full else maps


@torch.no_grad()
def spectral_residual(images: Tensor, std: Sequence[float] = (), full: bool = True) -> Tensor:
    """Spectral residual: what is left of a picture if the expected part of its spectrum is taken away.

    The log magnitude of the Fourier transform less its mean over 3 x 3 frequencies (the spectrum goes on at its other
    end) with the phase as it was, transformed back; of that the magnitude, under a Gaussian window of 7 x 7 px, sigma
    3. Pictures larger than 128 px are reduced to 128 px first (mean over areas, longest side).

    Source: Hou and Zhang, Saliency Detection: A Spectral Residual Approach, CVPR 2007; size and window as GuidedMixup
    (Kang and Kim, AAAI 2023) has them. The magnitude is not squared.

    Args:
        images: (N, C, H, W), floating point.
        std: of the normalisation, as for :func:`grey`.
        full: bring a reduced map back to (H, W); False leaves it small.

    Returns:
        (N, H, W), or (N, h, w) with a longest side of at most 128 px.
    """
    small = _reduced(images.shape[-2:], SPECTRAL_SIDE)
    weights, *around = to_device(
        images.device,
        _channel_weights(images.shape[1], tuple(std)),
        *(_cyclic_matrix(side) for side in small),
        *(gaussian_matrix(side, 7, 3.0) for side in small),
    )
    mean_rows, mean_columns, blur_rows, blur_columns = around
    with arithmetic(images.device):
        spectrum = torch.fft.fft2(_resized(_weighted(images, weights), small, 'area'))
        usual = mean_rows @ spectrum.abs().add_(LEAST_MAGNITUDE).log_() @ mean_columns.mT
        # exp(log magnitude - usual) with the old phase is the spectrum itself, divided by exp(usual)
        left = torch.fft.ifft2(spectrum * usual.neg_().exp_()).real.abs()
        maps = blur_rows @ left @ blur_columns.mT
        return _resized(maps, images.shape[-2:], 'bilinear') if full else maps


@torch.no_grad()
def gradient_saliency(gradient: Tensor) -> Tensor:
    """(N, H, W) root mean square over the channels of the gradient (N, C, H, W) of a loss by the pixels."""
    return gradient.float().square().mean(1).sqrt_()


@torch.no_grad()
def peaks(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(N, 2) row and column, int64, of the greatest value of each map in a picture of ``size``; of equals the first.

    Args:
        maps: (N, h, w); a map smaller than the picture names the pixel in the middle of its cell.
        size: (H, W) of the pictures in pixels.
    """
    height, width = maps.shape[1:]
    at = maps.flatten(1).argmax(1)
    down, across = at.div(width, rounding_mode='floor'), at % width
    if (height, width) != tuple(size):
        down = (down * (2 * size[0])).add_(size[0]).div_(2 * height, rounding_mode='floor')
        across = (across * (2 * size[1])).add_(size[1]).div_(2 * width, rounding_mode='floor')
    return torch.stack([down, across], 1)


def _weighted(images: Tensor, weights: Tensor) -> Tensor:
    """(N, H, W) sum of the channels times ``weights`` (1, C)."""
    height, width = images.shape[-2:]
    return (weights @ images.float().flatten(2)).view(-1, height, width)


def _resized(maps: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """(N, *size) of maps (N, h, w)."""
    if maps.shape[1:] == tuple(size):
        return maps
    return F.interpolate(maps[:, None], size=tuple(size), mode=mode)[:, 0]


def _reduced(size: Sequence[int], longest: int) -> tuple[int, int]:
    """(h, w) in the proportion of ``size`` (H, W), neither side above ``longest`` nor above what it was."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _radii(longest: int) -> tuple[int, ...]:
    """Radii of the windows in a picture whose longest side has ``longest`` pixels; equal ones count once."""
    return tuple(sorted({max(1, int(radius * longest / FINE_SIDE + 0.5)) for radius in FINE_RADII}))


@functools.lru_cache(maxsize=64)
def _channel_weights(channels: int, std: tuple[float, ...]) -> Tensor:
    """(1, C) on the CPU."""
    weights = torch.tensor([LUMA]) if channels == 3 else torch.full((1, channels), 1 / channels)
    return weights * torch.tensor(std) if len(std) == channels else weights


@functools.lru_cache(maxsize=64)
def _box_matrices(length: int, radii: tuple[int, ...]) -> Tensor:
    """(S, L, L) on the CPU: row i of each matrix has the weights of the mean over a radius around pixel i."""
    inside = (_distances(length) <= torch.tensor(radii)[:, None, None]).float()
    return inside / inside.sum(2, keepdim=True)


@functools.lru_cache(maxsize=64)
def _cyclic_matrix(length: int) -> Tensor:
    """(L, L) on the CPU: mean of each value and its two neighbours, the last beside the first."""
    return sum(torch.eye(length).roll(shift, 1) for shift in (-1, 0, 1)) / torch.tensor(3.0)


def _distances(length: int) -> Tensor:
    """(L, L) float distance of each pair of pixels of a line."""
    at = torch.arange(length, dtype=torch.float32)
    return (at[:, None] - at).abs()
