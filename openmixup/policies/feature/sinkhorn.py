"""Optimal transport between the cells of two feature maps, with an entropy term (Cuturi, NeurIPS 2013)."""

from __future__ import annotations

import torch
from torch import Tensor

from openmixup.policies.precision import arithmetic

__all__ = ['annealed_plan', 'plain_plan', 'similarity']

TURNS = 5  # at each temperature
RELAXATION = 1.5  # a step goes so much further than to the exact marginal, which saves half of the turns
HOTTEST, COLDEST = 0.1, 1e-5  # temperatures in parts of the spread of the scores; float32 resolves no colder one
LEAST_LOG = -50.0  # of an entry beside the greatest of its row; numbers below 1e-38 would take ten times as long


def similarity(a: Tensor, b: Tensor, whole: bool = True) -> Tensor:
    """(N, n, m) float32: minus the squared Euclidean distances of cells, ``2 a b - |a|^2 - |b|^2``.

    Args:
        a: (N, n, C) cells of the first maps, floating point.
        b: (N, m, C) cells of the second maps.
        whole: False leaves the terms of a single cell away, which make no difference to :func:`annealed_plan`.
    """
    a, b = a.float(), b.float()
    with arithmetic(a.device):
        scores = torch.bmm(a, b.mT).mul_(2)
    if not whole:
        return scores
    lengths = [torch.linalg.vector_norm(x, dim=2).square() for x in (a, b)]
    return scores.sub_(lengths[0][:, :, None]).sub_(lengths[1][:, None])


@torch.no_grad()
def annealed_plan(scores: Tensor, eps: float, iterations: int) -> Tensor:
    """(N, n, n) transport plans with uniform marginals, times n: entry (i, j) is the share of cell j in cell i.

    Rows sum to one. Columns do but for the turns that are missing: after 50 turns the mean of ``abs(sum - 1)`` is below
    0.02 for the last maps of ResNets (4x4 and 7x7 cells), and below 0.1 for features of any scale with cells of
    different lengths. At the temperature ``eps`` alone a hundred turns leave 0.2 to 0.6.

    So the temperature falls from a tenth of the spread of the scores to ``eps``, though not below a hundred-thousandth
    of it. The plan that the turns approach is the same. Each temperature starts again from the scores and the
    potentials of the columns, so that an entry too small for float32 is not lost; in between, rows and columns are
    divided in place. Nothing is read from the device.

    Args:
        scores: (N, n, n) float32, minus the cost of each pair; terms of a single row or column make no difference.
        eps: weight of the entropy in units of the cost, above 0.
        iterations: turns of a column step and a row step, at least 1.
    """
    scores = scores.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)  # leading sums are the fastest
    scores.sub_(scores.mean(0, keepdim=True)).sub_(scores.mean(1, keepdim=True))
    starts = range(0, iterations, TURNS)
    temperature, ratio = _temperatures(scores, eps, len(starts))
    potential, plan = torch.zeros_like(scores[:1]), torch.empty_like(scores)
    for start in starts:
        torch.add(scores, potential, out=plan).div_(temperature)
        plan.sub_(plan.amax(1, keepdim=True)).clamp_min_(LEAST_LOG).exp_()
        plan.div_(plan.sum(1, keepdim=True))
        change = torch.ones_like(potential)
        for _ in range(min(TURNS, iterations - start)):
            step = plan.sum(0, keepdim=True).pow_(RELAXATION)
            change.mul_(step)
            plan.div_(step)
            plan.div_(plan.sum(1, keepdim=True))
        potential.sub_(change.log_().mul_(temperature))
        temperature.mul_(ratio)
    return plan.permute(2, 0, 1).contiguous()


def _temperatures(scores: Tensor, eps: float, levels: int) -> tuple[Tensor, Tensor]:
    """(N,) temperature to begin with, and (N,) what it is multiplied by from one of the ``levels`` to the next."""
    spread = scores.amax((0, 1)) - scores.amin((0, 1))
    coldest = (spread * COLDEST).clamp_min_(eps)
    if levels == 1:
        return coldest, torch.ones_like(coldest)
    hottest = torch.maximum(spread * HOTTEST, coldest)
    return hottest, (coldest / hottest).pow_(1 / (levels - 1))


@torch.no_grad()
def plain_plan(scores: Tensor, eps: float, iterations: int, rows_first: bool) -> Tensor:
    """Like :func:`annealed_plan`, but all turns at the temperature ``eps``, as in the code of AlignMixup.

    Where distances are large beside ``eps`` this ends far from the marginals of the columns, near to giving each cell
    its nearest one. The authors' code also stops at the first change of the potentials below 0.1, summed over the
    cells, as the mean of the batch; here all turns are made, which needs no value from the device.

    Args:
        scores: (N, n, n) float32, minus the cost of each pair.
        eps: weight of the entropy in units of the cost, above 0.
        iterations: turns of a row step and a column step.
        rows_first: whether a turn begins with the rows.
    """
    first, second = (2, 1) if rows_first else (1, 2)
    logarithm = scores / eps
    for _ in range(iterations):
        logarithm = logarithm.log_softmax(first).log_softmax(second)
    return logarithm.softmax(2)
