"""The pairing of GuidedMixup: a greedy cycle through images whose saliency maps are far apart.

Pure tensor functions; nothing is read from the device. All groups of a batch are walked at once.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.policies.precision import arithmetic
from openmixup.policies.transfer import to_device

__all__ = ['DISTANCES', 'distances', 'far_partners', 'groups']

DISTANCES = ('l2', 'l1', 'cosine')
NEVER = float('-inf')


def groups(size: int, most: int, rng: torch.Generator) -> Tensor:
    """(groups, members) int64 on the CPU: the numbers 0 to size - 1 in random groups, ``size`` where one is shorter.

    Args:
        size: N, at least 2.
        most: members of the largest group, at least 3; groups differ by one member at most, which is their last.
        rng: CPU generator, drawn from if there are several groups.
    """
    count = -(-size // most)
    if count == 1:
        return torch.arange(size)[None]
    dealt = F.pad(torch.randperm(size, generator=rng), (0, -size % count), value=size)
    return dealt.view(-1, count).t().contiguous()


@torch.no_grad()
def distances(maps: Tensor, kind: str) -> Tensor:
    """(..., M, M) float32 distances of maps (..., M, P).

    Args:
        maps: saliency maps, each summing to 1.
        kind: 'l2', 'l1' or 'cosine' (one minus the cosine).
    """
    with arithmetic(maps.device):
        if kind == 'cosine':
            unit = F.normalize(maps, dim=-1)
            return 1 - unit @ unit.mT
        return torch.cdist(maps, maps, 2.0 if kind == 'l2' else 1.0)


@torch.no_grad()
def far_partners(maps: Tensor, members: Tensor, kind: str = 'l2') -> Tensor:
    """(N,) int64 partner of each image on the device of the maps: its successor in the greedy cycle of its group.

    A cycle begins with the two images that are farthest apart, goes on from each image to the farthest one that it has
    not met yet, and returns to its first image. So no image is its own partner. The steps depend on each other: there
    is one for each member of the largest group, of three operators each.

    Args:
        maps: (N, P) saliency maps.
        members: (groups, members) on the CPU, as of :func:`groups`.
        kind: of the distance, see :func:`distances`.
    """
    size, (count, most) = len(maps), members.shape
    short = (members[:, -1] == size)[:, None]
    at, after, absent = to_device(maps.device, members, _successors(most)[short.long().flatten()], _absent(short, most))
    apart = distances(maps.index_select(0, at.flatten().clamp(max=size - 1)).view(count, most, -1), kind)
    apart = torch.maximum(apart, apart.mT)  # products need not round alike on both sides of the diagonal
    apart.add_(absent)  # who is missing is met last, and begins nothing
    place = apart.flatten(1).argmax(1, keepdim=True).div(most, rounding_mode='floor')
    cycle = [place]
    for _ in range(most - 1):
        apart.scatter_(2, place[:, None].expand(-1, most, -1), NEVER)
        row = apart.gather(1, place[:, :, None].expand(-1, -1, most))
        place = row.argmax(2)
        cycle.append(place)
    order = at.gather(1, torch.cat(cycle, 1))
    partner = torch.empty(size + 1, dtype=torch.int64, device=maps.device)
    return partner.scatter_(0, order.flatten(), order.gather(1, after).flatten())[:size]


@functools.lru_cache(maxsize=64)
def _successors(most: int) -> Tensor:
    """(2, most) on the CPU: which step of a cycle follows each one, in a full group and in one that lacks a member."""
    full = torch.arange(1, most + 1) % most
    lacking = full.clone()
    lacking[-2:] = torch.tensor([0, most - 1])[-min(2, most) :]
    return torch.stack([full, lacking])


def _absent(short: Tensor, most: int) -> Tensor:
    """(groups, most, most) float32 on the CPU, -4 for distances of a missing member: above never, below all others."""
    last = (torch.arange(most) == most - 1) & short
    return (last[:, :, None] | last[:, None]).float().mul_(-4.0)
