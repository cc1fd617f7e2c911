"""The arithmetic of mixing methods as the plainest tensor code: the measure of what our interface costs.

Each function takes a batch (N, C, H, W) and gives the mixed batch, the partners and the weight of all that is not
theirs, of one lam a batch. No label honesty on any device, no checks, no choice of pairing, no masks to show: only what
must be computed.
"""

from __future__ import annotations

import functools
import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ['PLAIN']

Mixed = tuple[Tensor, Tensor, float]


def mixup(images: Tensor) -> Mixed:
    """Gather, then blend in place."""
    partner, lam = torch.randperm(len(images)), random.random()
    return images.index_select(0, partner).lerp_(images, lam), partner, lam


def _blend(images: Tensor, own: Tensor) -> Mixed:
    """By a mask (H, W) of the own image."""
    partner = torch.randperm(len(images))
    return images.index_select(0, partner).lerp_(images, own), partner, own.mean().item()


def _box(share: float, size: tuple[int, int]) -> tuple[slice, slice]:
    """Around a random pixel, clipped to the image."""
    sides = []
    for length in size:
        half, centre = int(length * math.sqrt(share)) // 2, random.randrange(length)
        sides.append(slice(max(centre - half, 0), min(centre + half, length)))
    return sides[0], sides[1]


def _outside(box: tuple[slice, slice], size: tuple[int, int]) -> float:
    return 1 - math.prod(side.stop - side.start for side in box) / math.prod(size)


def cutmix(images: Tensor) -> Mixed:
    """Copy the batch, then the box of the partners."""
    partner, size = torch.randperm(len(images)), images.shape[-2:]
    down, across = box = _box(1 - random.random(), size)
    mixed = images.clone()
    mixed[:, :, down, across] = images[:, :, down, across].index_select(0, partner)
    return mixed, partner, _outside(box, size)


def resizemix(images: Tensor) -> Mixed:
    """Copy the batch, then all of the partners, made small."""
    partner, size = torch.randperm(len(images)), images.shape[-2:]
    down, across = box = _box((0.1 + 0.7 * random.random()) ** 2, size)
    sides = max(down.stop - down.start, 1), max(across.stop - across.start, 1)
    mixed = images.clone()
    small = F.interpolate(images, sides, mode='nearest').index_select(0, partner)
    mixed[:, :, down.start : down.start + sides[0], across.start : across.start + sides[1]] = small[
        :, :, : size[0] - down.start, : size[1] - across.start
    ]
    return mixed, partner, _outside(box, size)


@functools.lru_cache
def _amplitude(height: int, width: int) -> Tensor:
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
    return frequency.clamp(min=1 / max(height, width)).pow(-3)


def fmix(images: Tensor) -> Mixed:
    """Noise by an inverse Fourier transform, cut at a rank."""
    height, width = images.shape[-2:]
    amplitude = _amplitude(height, width)
    spectrum = torch.randn(*amplitude.shape, 2).mul_(amplitude[..., None])
    noise = torch.fft.irfft2(torch.view_as_complex(spectrum), s=(height, width)).flatten()
    own = torch.zeros(height * width)
    own[noise.topk(int(random.random() * len(own)), sorted=False).indices] = 1
    return _blend(images, own.view(height, width))


def gridmix(images: Tensor) -> Mixed:
    """A mask of holes on a grid in a rectangle, from its rows and columns."""
    own, lines = 1 - random.random(), []
    cell = max(images.shape[-1] // random.randint(2, 6), 2)
    for length in images.shape[-2:]:
        extent = random.randrange(length // 2, length) + 1
        start = random.randrange(length - extent + 1)
        at = torch.arange(length) - start
        lines.append(((at >= 0) & (at < extent) & (at % cell < cell * math.sqrt(1 - own))).float())
    return _blend(images, 1 - torch.outer(*lines))


def _bump(variance: float, size: tuple[int, int]) -> Tensor:
    """(H, W) of a Gaussian bump around a random pixel."""
    rows, columns = (
        torch.arange(length).sub_(random.randrange(length)).square().mul(-0.5 / variance).exp_() for length in size
    )
    return torch.outer(rows, columns)


def smoothmix(images: Tensor) -> Mixed:
    """A Gaussian bump of the partner."""
    size = images.shape[-2:]
    return _blend(images, 1 - _bump((0.25 + 0.25 * random.random()) ** 2 * math.prod(size), size))


def gmix(images: Tensor) -> Mixed:
    """A Gaussian bump of whom has the smaller share."""
    size, lam = images.shape[-2:], random.random()
    bump = _bump(max(min(lam, 1 - lam), 1e-9) * math.prod(size) / (2 * math.pi), size)
    return _blend(images, 1 - bump if lam >= 0.5 else bump)


def hmix(images: Tensor) -> Mixed:
    """A box of the partner, and a blend outside."""
    size, lam = images.shape[-2:], random.random()
    box = _box((1 - lam) / 2, size)
    own = torch.full(tuple(size), min(lam / max(_outside(box, size), 1e-9), 1))
    own[box] = 0
    return _blend(images, own)


def ricap(images: Tensor) -> Mixed:
    """Crops of four images around a point."""
    height, width = images.shape[-2:]
    row, column = round(random.betavariate(0.3, 0.3) * height), round(random.betavariate(0.3, 0.3) * width)
    mixed, partners = torch.empty_like(images), [torch.randperm(len(images)) for _ in range(4)]
    order = iter(partners)
    for down in (slice(0, row), slice(row, height)):
        for across in (slice(0, column), slice(column, width)):
            sides = down.stop - down.start, across.stop - across.start
            top, left = random.randint(0, height - sides[0]), random.randint(0, width - sides[1])
            crop = images[:, :, top : top + sides[0], left : left + sides[1]]
            mixed[:, :, down, across] = crop.index_select(0, next(order))
    return mixed, partners[3], 1 - (height - row) * (width - column) / (height * width)


def samplepairing(images: Tensor) -> Mixed:
    """The mean of two images."""
    partner = torch.randperm(len(images))
    return images.index_select(0, partner).lerp_(images, 0.5), partner, 1.0


def stackmix(images: Tensor) -> Mixed:
    """Two images below each other."""
    partner = torch.randperm(len(images))
    return torch.cat([images, images.index_select(0, partner)], 2), partner, 0.5


def vhmixup(images: Tensor) -> Mixed:
    """The blend of a vertical and a horizontal concatenation, as one mask."""
    (height, width), lam = images.shape[-2:], random.random()
    rows, columns = (torch.arange(length) for length in (height, width))
    above = (rows < random.random() * height).float()[:, None]
    left = (columns < random.random() * width).float()
    return _blend(images, lam * above + (1 - lam) * left)


PLAIN = {
    'Mixup()': mixup,
    'CutMix()': cutmix,
    'FMix()': fmix,
    'GridMix()': gridmix,
    'SmoothMix()': smoothmix,
    'HMix()': hmix,
    'GMix()': gmix,
    'ResizeMix()': resizemix,
    'RICAP()': ricap,
    'SamplePairing()': samplepairing,
    'StackMix()': stackmix,
    'VHMixup()': vhmixup,
}
