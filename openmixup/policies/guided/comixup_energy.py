"""The energy of Co-Mixup, which cuts many images into as many mixtures at once, and a descent of it.

Pure batched tensor functions: all parts of a batch are solved together, the number of steps is fixed, nothing is read
from the device, and no graph-cut library is needed. A cell of an (h, w) grid shows one image, or two of them half each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.policies.precision import arithmetic
from openmixup.policies.transfer import to_device

__all__ = ['Parts', 'solve']

EQUAL = 1e-4  # energies that are so near are alike; the saliency of an image sums to 1


@dataclass(frozen=True, eq=False)
class Parts:
    """What it costs to make K mixtures of the K images of a part, for P parts of a batch.

    The energy of shares x is, with n[k, i] the cells that mixture k gives to image i,

        sum_k <cost, x[k]> + beta sum_borders |x[k, p] - x[k, q]|^2 / 2 + gamma sum_ki f(used[k, i]) n[k, i]

    where used[k] = relation @ sum_(k' != k) n[k'] says how much of each image the other mixtures show, and f(u) is u
    above ``limit``, else 0. A border between two images costs beta, one between an image and a half of it beta / 4.

    Args:
        cost: (P, K, h * w) of each image in each cell; far above all others for an image that is not there.
        relation: (P, K, K) how much the use of an image (column) counts as one of another (row).
        present: (P,) whether a part has a last image, else 0; None: all have.
        grid: (h, w).
        beta: price of a border between two images.
        gamma: price of a cell of an image that is used up, for each cell of it elsewhere.
        limit: cells in other mixtures up to which an image is not used up.
    """

    cost: Tensor
    relation: Tensor
    present: Tensor | None
    grid: tuple[int, int]
    beta: float
    gamma: float
    limit: float

    def of(self, shares: Tensor) -> Tensor:
        """(P,) energy of shares (K, P, K, h * w): of the mixtures, the parts, the images, in the cells."""
        table = _rectangles(self.grid, self.cost.device)
        cells = (shares * self.cost).sum((0, 2, 3))
        borders = (shares @ table.steps).square().sum((0, 2, 3))
        counts = shares.sum(3).transpose(0, 1)
        used = (counts.sum(1, keepdim=True) - counts) @ self.relation.mT
        used_up = (F.threshold(used, self.limit, 0.0) * counts).sum((1, 2))
        return cells + borders.mul(self.beta / 2) + used_up.mul(self.gamma)


@dataclass(frozen=True, eq=False)
class _Rectangles:
    """All R rectangles of cells of a grid, as columns; the last one is the grid.

    Args:
        inside: (h * w, R) 1 inside the rectangle.
        pairs: (h * w, 2, R) 1 inside, and 1 outside.
        weigh: (h * w, 2 R) what a cell counts: inside twice, so that half cells are whole numbers; outside once for
            each neighbour inside.
        shared: (2 * h * w + borders, R) how the cost of what is replaced, squared shares of cells and squared steps at
            borders enter: -1, 1/2 for each neighbour inside, and -1/2 if the border is touched.
        edge: (R,) borders between inside and outside.
        halves: (2, R) int64 half cells that one image gets inside, and that two get each.
        steps: (h * w, borders) the difference of the two cells of each border.
    """

    inside: Tensor
    pairs: Tensor
    weigh: Tensor
    shared: Tensor
    edge: Tensor
    halves: Tensor
    steps: Tensor


@functools.lru_cache(maxsize=64)
def _rectangles(grid: tuple[int, int], device: torch.device) -> _Rectangles:
    """Made on the CPU once for each grid and copied."""
    height, width = grid
    rows, columns = (
        torch.stack(
            [
                ((torch.arange(length) >= low) & (torch.arange(length) < high)).float()
                for low in reversed(range(length))
                for high in range(low + 1, length + 1)
            ]
        )
        for length in grid
    )
    inside = (rows[:, None, :, None] * columns[None, :, None, :]).view(-1, height * width)
    cells = torch.arange(height * width).view(height, width)
    first = torch.cat([cells[:-1].flatten(), cells[:, :-1].flatten()])
    second = torch.cat([cells[1:].flatten(), cells[:, 1:].flatten()])
    steps = (F.one_hot(first, height * width) - F.one_hot(second, height * width)).float().t()
    beside = (steps != 0).float() @ (steps != 0).float().t()
    beside.fill_diagonal_(0.0)
    near = (inside @ beside) * (1 - inside)
    touched = (inside[:, first] + inside[:, second]).clamp(max=1)
    tables = (
        inside.t(),
        torch.stack([inside.t(), 1 - inside.t()], 1),
        torch.cat([2 * inside, near]).t(),
        torch.cat([-inside, near / 2, -touched / 2], 1).t(),
        near.sum(1),
        torch.stack([2 * inside.sum(1), inside.sum(1)]).long(),
        steps,
    )
    return _Rectangles(*to_device(device, *(table.contiguous() for table in tables)))


@torch.no_grad()
def solve(parts: Parts, start: Tensor, sweeps: int) -> Tensor:
    """(K, P, K, h * w) float32 shares of nearly least energy: of the mixtures, the parts, the images, in the cells.

    The mixtures are visited in turn. In the first sweep each is made anew: the best rectangle of one image in another
    one, given what all others use, where a cell of an image that is used up counts twice, for itself and for them. In
    each further sweep a mixture gets one image, or the two images that it shows most of half each, on the one rectangle
    that lowers the energy most, if any does. Such a visit never raises it if ``relation`` is diagonal; what it does to
    other mixtures by what is not on the diagonal is not seen. A part that costs more than its plain images in the end,
    by more than rounding, gets these.

    Args:
        parts: what is to be solved.
        start: (K, P, K) cells that each mixture gives to each image before the first visit.
        sweeps: over all mixtures, at least 1.
    """
    with arithmetic(parts.cost.device):
        state = _State(parts, start)
        for turn in range(state.size):
            state.visit(turn, _two_images)
        for turn in range((sweeps - 1) * state.size):
            state.visit(turn % state.size, _one_rectangle)
        plain = state.images[:, None, :, None].repeat(1, len(parts.cost), 1, parts.cost.shape[2])
        if parts.present is not None:
            plain[-1].mul_(parts.present[:, None, None])
        worse = parts.of(state.shares) - parts.of(plain) > EQUAL
        return state.shares.lerp_(plain, worse.float()[:, None, None])


class _State:
    """Shares of all mixtures, how many cells they give to each image, and what these uses count for."""

    def __init__(self, parts: Parts, start: Tensor) -> None:
        cost, device = parts.cost, parts.cost.device
        count, self.size, cells = cost.shape
        self.parts, self.table = parts, _rectangles(parts.grid, device)
        self.shares = cost.new_zeros(self.size, count, self.size, cells)
        self.uses = torch.stack([start, (start.transpose(0, 1) @ parts.relation.mT).transpose(0, 1)])
        self.images = torch.eye(self.size, device=device)
        self.order = torch.arange(self.size, device=device) * 1e-3  # of images with as many cells, on any device
        self.halves = torch.arange(2 * cells + 1, device=device)[:, None, None] * 0.5
        own = parts.relation.diagonal(dim1=1, dim2=2) * self.halves
        self.own = own.repeat(1, self.size, 1)  # (2 * h * w + 1, K * P, K): the same for all mixtures
        # what an image, and a half of one, costs on each rectangle: its cells, and what all borders would add
        self.strength = torch.stack([cost.new_ones(1), cost.new_full((1,), 0.5)])
        laid = (cost @ self.table.inside).add_(self.table.edge, alpha=parts.beta / 2)
        self.laid = laid[:, :, None] * self.strength
        self.near = self.strength * -parts.beta
        self.shared = torch.cat([self.table.shared[:cells], self.table.shared[cells:] * parts.beta])

    def visit(self, turn: int, best: Callable[[_State, Tensor], None]) -> None:
        """Let ``best`` change the shares of a mixture in place, which uses nothing meanwhile."""
        shares = self.shares[turn]
        self.uses[:, turn] = 0
        best(self, shares)
        if turn == self.size - 1 and self.parts.present is not None:
            shares.mul_(self.parts.present[:, None, None])
        counts, used = self.uses[:, turn, ..., None]
        torch.sum(shares, 2, keepdim=True, out=counts)
        torch.bmm(self.parts.relation, counts, out=used)


def _two_images(state: _State, shares: Tensor) -> None:
    """One image inside the best rectangle, another one outside; those that are used up cost what they do elsewhere too.

    Args:
        state: of all mixtures.
        shares: (P, K, h * w) of the one that is visited.
    """
    parts, table = state.parts, state.table
    used_up = F.threshold(state.uses[1].sum(0), parts.limit, 0.0)
    cost = parts.cost.add(used_up[..., None], alpha=2 * parts.gamma)
    least, image = _times(cost, table.pairs.flatten(1)).min(1)
    total = least.view(len(least), 2, -1).sum(1).add_(table.edge, alpha=parts.beta)
    best = total.argmin(1)
    image = image.view(len(least), 2, -1).gather(2, best[:, None, None].expand(-1, 2, 1))
    chosen = state.images.index_select(0, image.flatten()).view(*image.shape[:2], -1)
    torch.bmm(chosen.mT, table.pairs.index_select(2, best).permute(2, 1, 0), out=shares)


def _one_rectangle(state: _State, shares: Tensor) -> None:
    """One image, or two half each, on the rectangle that lowers the energy most, if any does.

    Args:
        state: of all mixtures.
        shares: (P, K, h * w) of the one that is visited.
    """
    parts, table, rectangles = state.parts, state.table, len(state.table.edge)
    doubled, near = _times(shares, table.weigh).split(rectangles, 2)  # (P, K, R) half cells inside; neighbours outside
    own = doubled[..., -1]
    left = (own[..., None] - doubled).long()
    prices = _prices(state)
    kept = prices.gather(2, left)
    change = prices.gather(2, (left[:, :, None] + table.halves).flatten(2)).unflatten(2, (2, -1))
    change = change.sub_(kept[:, :, None]).addcmul_(near[:, :, None], state.near).add_(state.laid)
    both = torch.zeros_like(own).scatter_(1, (own - state.order).topk(2).indices, 0.5)[:, None]  # (P, 1, K)
    halved = torch.baddbmm(table.edge, both, change[:, :, 1], beta=-parts.beta / 4, alpha=2)
    replaced = torch.cat([parts.cost * shares, shares.square(), _times(shares, table.steps).square_()], 2).sum(1)
    common = torch.addmm(kept.sum(1), replaced, state.shared)
    best = torch.cat([change[:, :, 0], halved], 1).add_(common[:, None]).flatten(1).argmin(1)
    label, place = best.div(rectangles, rounding_mode='floor'), best % rectangles
    choice = torch.cat([state.images.expand(len(both), -1, -1), both], 1)
    chosen = choice.gather(1, label[:, None, None].expand(-1, 1, state.size))
    shares.lerp_(chosen.mT, table.inside.index_select(1, place).t()[:, None])


def _prices(state: _State) -> Tensor:
    """(P, K, 2 * h * w + 1) what images that are used up cost if the mixture that is visited has so many half cells."""
    parts, (counts, used) = state.parts, state.uses
    elsewhere = used.sum(0)
    others = (elsewhere - used).flatten(0, 1) + state.own  # as the other mixtures see it
    others = (
        F.threshold(others, parts.limit, 0.0, inplace=True)
        .mul_(counts.flatten(0, 1))
        .unflatten(1, (state.size, -1))
        .sum(1)
    )
    own = F.threshold(elsewhere, parts.limit, 0.0, inplace=True)
    return others.addcmul_(own, state.halves).mul_(parts.gamma).permute(1, 2, 0)


def _times(values: Tensor, matrix: Tensor) -> Tensor:
    """(P, K, m) product of (P, K, n) and (n, m), as one of matrices."""
    return (values.flatten(0, 1) @ matrix).view(*values.shape[:2], -1)
