"""Pictures of random fractals, made where no set of pictures is at hand.

Each is the attractor of an iterated function system of 2 to 8 affine maps that contract. Their singular values
s_i >= t_i are drawn such that the sum of s_i + 2 t_i lies between (5 + n) / 2 and (6 + n) / 2 for n maps, which keeps
attractors from being a blob or some dots (Anderson and Farrell, WACV 2022; from memory). A point jumps by one of the
maps again and again, chosen with probability by the area that it keeps, and its colour becomes the mean of its own and
the map's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from openmixup.randomness import keyed_generator

__all__ = ['fractals']

F32 = torch.float32  # whatever the default of the process is
MOST_MAPS = 8
FLAT = 1e-3  # least area of a map, so that each is chosen now and then
WARM_UP, JUMPS = 20, 100
TOGETHER = 32  # pictures, so that the points of many large ones need not be held
BORDER = 0.05  # of the side, on each side


def fractals(count: int, channels: int, size: tuple[int, int]) -> Tensor:
    """uint8 (count, channels, H, W) fractals on grounds of one colour; the same ones for the same arguments.

    Args:
        count: number of pictures, at least 1.
        channels: of each.
        size: (H, W).
    """
    rng = keyed_generator('fractals', count, channels, *size)
    parts = [_pictures(min(TOGETHER, count - start), channels, size, rng) for start in range(0, count, TOGETHER)]
    return torch.cat(parts).mul_(255).round_().to(torch.uint8)


def _pictures(count: int, channels: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
    """(count, channels, H, W) in [0, 1]."""
    grounds = torch.rand(count, 1, channels, generator=rng, dtype=F32)
    points, shades = _attractors(count, channels, math.ceil(size[0] * size[1] / JUMPS), rng)
    low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
    limits = torch.tensor(size)
    at = BORDER + (points - low) / (high - low).clamp_min(1e-6) * (1 - 2 * BORDER)
    cells = (at * limits).long().clamp_min(0).minimum(limits - 1)
    place = (cells[..., 0] * size[1] + cells[..., 1])[..., None]
    shape = (count, size[0] * size[1])
    hits = torch.zeros(*shape, 1, dtype=F32).scatter_add_(1, place, torch.ones(*place.shape, dtype=F32))
    sums = torch.zeros(*shape, channels, dtype=F32).scatter_add_(1, place.expand_as(shades), shades)
    pictures = torch.where(hits > 0, sums / hits.clamp_min(1), grounds)
    return pictures.transpose(1, 2).reshape(count, channels, *size)


def _system(rng: torch.Generator) -> Tensor:
    """(n, 2, 3) affine maps: a matrix and behind it a shift."""
    count = int(torch.randint(2, MOST_MAPS + 1, (), generator=rng))
    while True:
        values = torch.rand(count, 2, generator=rng, dtype=F32).sort(1, descending=True).values
        total = 0.5 * (5 + count + float(torch.rand((), generator=rng, dtype=F32)))
        values = values * (total / float((values * torch.tensor([1.0, 2.0], dtype=F32)).sum()))
        if float(values.max()) < 1 and float(values.prod(1).min()) > FLAT:
            break
    turns = torch.rand(2, count, generator=rng, dtype=F32) * (2 * math.pi)
    flips = torch.randint(2, (count, 2), generator=rng) * 2 - 1
    matrices = _rotations(turns[0]) @ (torch.diag_embed(values * flips) @ _rotations(turns[1]))
    return torch.cat([matrices, torch.rand(count, 2, 1, generator=rng, dtype=F32) * 2 - 1], 2)


def _rotations(angles: Tensor) -> Tensor:
    """(n, 2, 2)."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def _attractors(count: int, channels: int, chains: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(count, chains * JUMPS, 2) points of as many systems, and (count, chains * JUMPS, channels) their colours."""
    maps = torch.zeros(count, MOST_MAPS, 2, 3, dtype=F32)
    shares = torch.zeros(count, MOST_MAPS, dtype=F32)
    for number in range(count):
        system = _system(rng)
        maps[number, : len(system)] = system
        shares[number, : len(system)] = torch.linalg.det(system[:, :, :2]).abs()
    colours = torch.rand(count * MOST_MAPS, channels, generator=rng, dtype=F32)
    first = (torch.arange(count) * MOST_MAPS)[:, None]  # of the maps of each system
    jumps = torch.multinomial(shares, (WARM_UP + JUMPS) * chains, replacement=True, generator=rng) + first
    maps = maps.flatten(0, 1)
    point = torch.zeros(count * chains, 2, dtype=F32)
    shade = torch.full((count * chains, channels), 0.5, dtype=F32)
    points, shades = [], []
    for jump in jumps.view(count, -1, chains).unbind(1):
        chosen = maps[jump.flatten()]
        point = (chosen[:, :, :2] * point[:, None]).sum(2).add_(chosen[:, :, 2])
        shade = torch.lerp(shade, colours[jump.flatten()], 0.5)
        points.append(point.view(count, chains, 2))
        shades.append(shade.view(count, chains, channels))
    return torch.cat(points[WARM_UP:], 1), torch.cat(shades[WARM_UP:], 1)
