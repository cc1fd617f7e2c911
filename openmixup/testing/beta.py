"""Distribution functions: what was drawn, and Beta(alpha, alpha)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['beta_cdf', 'ecdf']


def ecdf(ordered: Tensor) -> Tensor:
    """Share of values not above each: of ties the last one counts, since rounding makes ties."""
    return torch.searchsorted(ordered, ordered, right=True).double() / len(ordered)


def beta_cdf(x: Tensor, alpha: float, points: int = 100_001) -> Tensor:
    """Distribution function of Beta(alpha, alpha), by the trapezium rule."""
    if alpha >= 1:
        grid = torch.linspace(0, 1, points, dtype=torch.float64)
        log_density = (alpha - 1) * (grid.log() + (-grid).log1p()).clamp_min(-1e6)
        return _integral(grid, (log_density - log_density.max()).exp(), x)
    # Below alpha = 1 the density has poles: u = x^alpha takes away the one at 0, and symmetry the one at 1.
    grid = torch.linspace(0, 0.5**alpha, points, dtype=torch.float64)
    lower = _integral(grid, (1 - grid ** (1 / alpha)) ** (alpha - 1), torch.minimum(x, 1 - x) ** alpha) / 2
    return torch.where(x <= 0.5, lower, 1 - lower)


def _integral(grid: Tensor, density: Tensor, at: Tensor) -> Tensor:
    """Integral of ``density`` from the start of the grid to ``at``, scaled to 1 for the whole of it."""
    total = torch.cat([torch.zeros(1), (density[1:] + density[:-1]).cumsum(0)]).double()
    step = (grid[-1] - grid[0]) / (len(grid) - 1)
    place = ((at - grid[0]) / step).clamp(0, len(grid) - 1)
    left = place.long().clamp(max=len(grid) - 2)
    return torch.lerp(total[left], total[left + 1], place - left) / total[-1]
