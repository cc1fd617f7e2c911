"""Batches from which one can tell where each pixel came from, and a way to draw from a policy."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Plan, View
from openmixup.randomness import keyed_generator

__all__ = [
    'SIGMAS',
    'draw',
    'draws',
    'has_partner',
    'meets_another',
    'mixed_view',
    'origin_images',
    'random_images',
    'scattered',
    'shares',
    'tolerance',
]

SIGMAS = 5.0  # a fair policy is blamed once in a million draws of the seeds, and the seeds are fixed


def origin_images(size: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(N, N, H, W): image i is 1 in channel i and 0 elsewhere, so a mixed pixel shows the share of each source."""
    return torch.eye(size, dtype=dtype)[:, :, None, None].expand(-1, -1, height, width).contiguous()


def random_images(
    size: int, height: int, width: int, dtype: torch.dtype = torch.float32, channels: int = 3, seed: int = 0
) -> Tensor:
    """(N, C, H, W) of standard normal noise, the same each time."""
    noise = torch.randn(size, channels, height, width, generator=keyed_generator('images', seed))
    return noise.to(dtype)


def draw(policy: MixPolicy, images: Tensor, labels: Tensor | None = None, seed: int = 0, target: str = 'class') -> Plan:
    """One plan from a stream of its own; each image is a class by default."""
    labels = torch.arange(len(images), device=images.device) if labels is None else labels
    return policy(Batch(images, labels, target=target), Context(generator=keyed_generator('check', seed)))


def draws(policy: MixPolicy, images: Tensor, count: int, seed: int = 0, epoch: int = 0) -> Iterator[Plan]:
    """``count`` plans from one stream."""
    generator = keyed_generator('checks', seed)
    batch = Batch(images, torch.arange(len(images)))
    for _ in range(count):
        yield policy(batch, Context(epoch=epoch, generator=generator))


def meets_another(view: View) -> Tensor:
    """(N,) whether a sample has a source other than itself."""
    own = torch.arange(len(view.mixture), device=view.mixture.index.device)
    return (view.mixture.index != own[:, None]).any(1)


def has_partner(view: View) -> bool:
    """Whether any sample has a source other than itself."""
    return bool(meets_another(view).any())


def mixed_view(plan: Plan) -> View:
    """The first view of several sources; the first one if there is none."""
    return next((view for view in plan.views if view.mixture.index.shape[1] > 1), plan.views[0])


def shares(view: View) -> Tensor:
    """(N, N, H, W) float64 share of each source at each pixel of a view of :func:`origin_images`."""
    return view.inputs.detach().double()


def scattered(view: View, sources: int) -> Tensor:
    """(N, S) float64 weight of each source for each sample."""
    weight = view.mixture.weight.detach().double()
    return torch.zeros(len(weight), sources, dtype=torch.float64).scatter_add_(1, view.mixture.index, weight)


def tolerance(policy: MixPolicy, dtype: torch.dtype) -> float:
    """Allowed gap between a label and the pixels: as declared by the class, but not below rounding."""
    rounding = max(2 * torch.finfo(dtype).eps, 1e-5)
    return max(rounding, float(getattr(type(policy), 'tolerance', 0.0)))
