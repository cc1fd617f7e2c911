"""The puzzle of PuzzleMix: what a mask of levels costs, and a solver of many such puzzles at once.

Pure batched tensor functions: the number of steps is fixed, nothing is read from the device, and no graph-cut library
is needed. A cell of an (h, w) grid shows the share i / (levels - 1) of the own image at level i.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.policies.transfer import to_device

__all__ = ['Energy', 'border_costs', 'puzzle', 'rounds_of', 'solve', 'surprise']

LEAST_SHARE = 1e-6  # lam is kept so far from 0 and 1, where the surprise has no bound
SETTLING = 3  # half sweeps behind the messages


@dataclass(frozen=True, eq=False)
class Energy:
    """Costs of N puzzles on an (h, w) grid.

    Args:
        unary: (N, levels, h, w) cost of each level in each cell, convex in the level.
        below: (N, h - 1, w) price of a step between a cell and the one below it.
        beside: (N, h, w - 1) price of a step between a cell and the one to its right.
    """

    unary: Tensor
    below: Tensor
    beside: Tensor

    def of(self, level: Tensor) -> Tensor:
        """(N,) cost of masks (N, h, w) int64: of each cell, and the squared step of the share at each border."""
        share = level.to(self.unary.dtype) / (self.unary.shape[1] - 1)
        cells = self.unary.gather(1, level[:, None]).sum((1, 2, 3))
        down = (self.below * share.diff(dim=1).square()).sum((1, 2))
        return cells + down + (self.beside * share.diff(dim=2).square()).sum((1, 2))


def surprise(lam: Tensor, levels: int) -> Tensor:
    """(b, levels) float32 on the CPU: minus the logarithm of the binomial probability of each level.

    Args:
        lam: (b,) float64 on the CPU, share of the own image to expect; a level is the number of successes of levels - 1
            trials.
        levels: number of levels.
    """
    top = levels - 1
    ways = torch.tensor([math.log(math.comb(top, hits)) for hits in range(levels)], dtype=torch.float64)
    hits = torch.arange(levels)
    own = lam.clamp(LEAST_SHARE, 1 - LEAST_SHARE)[:, None]
    return -(ways + hits * own.log() + (top - hits) * (1 - own).log()).float()


def border_costs(colours: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """What is seen at the borders of cells: summed absolute differences of the colours across them.

    Args:
        colours: (N, 2, C, h * points, w * points) own images and partners.
        points: colours along each side of a cell; those on both sides of a border are compared.

    Returns:
        (N, 2, 2, h - 1, w) and (N, 2, 2, h, w - 1): at the borders below and beside each cell, if the upper or left
        cell shows the own image (0) or the partner (1), and the other cell the one of the second index of the two.
    """
    upper, lower = colours[..., points - 1 : -1 : points, :], colours[..., points::points, :]
    left, right = colours[..., points - 1 : -1 : points], colours[..., points::points]
    # The channels are summed first: one sum over both dimensions takes three times as long on a CPU.
    down = upper[:, :, None].sub(lower[:, None]).abs_().sum(3)
    across = left[:, :, None].sub(right[:, None]).abs_().sum(3)
    return down.unflatten(-1, (-1, points)).sum(-1), across.unflatten(-2, (-1, points)).sum(-2)


def puzzle(saliency: Tensor, surprises: Tensor, down: Tensor, across: Tensor, floor: float | Tensor) -> Energy:
    """The energy of a mask: what saliency is lost, how far shares are from lam, and what shows at the borders.

    The cost of a border is d[U, V] + floor * [U != V], if the upper or left cell shows U and the other one V. Halves of
    it go into the cells, so that what is left is paid where two cells differ only: for whole cells the energy is the
    true cost and, at each border, the constant (d[own, partner] + d[partner, own]) / 2.

    Args:
        saliency: (N, 2, h, w) of the own image and the partner, in units of cost.
        surprises: (b, levels), b = 1 or N, cost of each level in a cell.
        down: (N, 2, 2, h - 1, w) cost d of borders, see :func:`border_costs`.
        across: the same at the other borders, (N, 2, 2, h, w - 1).
        floor: price of any border between the two images.
    """
    whole = saliency.flip(1)  # a cell that shows the own image loses the saliency of the partner
    whole[:, :, :-1] += down.mean(2)
    whole[:, :, 1:] += down.mean(1)
    whole[..., :-1] += across.mean(2)
    whole[..., 1:] += across.mean(1)
    share = torch.linspace(0, 1, surprises.shape[1], device=whole.device)[:, None, None]
    unary = torch.lerp(whole[:, 1:], whole[:, :1], share).add_(surprises[..., None, None])
    return Energy(unary, _interaction(down).add_(floor), _interaction(across).add_(floor))


def _interaction(costs: Tensor) -> Tensor:
    """What two different neighbours cost more than two equal ones, halved."""
    unlike, alike = costs[:, 0, 1] + costs[:, 1, 0], costs[:, 0, 0] + costs[:, 1, 1]
    return (unlike - alike).mul_(0.5)


def rounds_of(grid: tuple[int, int]) -> int:
    """Rounds of messages that :func:`solve` takes by default: what cells say has to cross the grid."""
    side = max(grid)
    return 8 + min(side, side * side // 16)


@torch.no_grad()
def solve(energy: Energy, rounds: int | None = None) -> Tensor:
    """(N, h, w) int64 levels of nearly least energy.

    Tree-reweighted min-sum message passing (Wainwright, Jaakkola and Willsky, 2005), with the rows and the columns of
    the grid as the trees. Costs are convex in the levels, so nothing but ties keeps its fixed points from being exact.
    Black and white cells of the checkerboard send in turns. What the rounds leave open is settled cell by cell, a
    colour at a time, which never raises the energy.

    Args:
        energy: N puzzles; prices of steps are at least 0.
        rounds: of messages, each to one colour; None: as :func:`rounds_of` says.
    """
    size, levels, *grid = energy.unary.shape
    height, width = grid
    board = _checkerboard(height, width, energy.unary.device)
    # The batch is the innermost dimension, so that cells are rows that are gathered as they are.
    unary = energy.unary.flatten(2).permute(2, 1, 0).index_select(0, board.order)
    below, beside = F.pad(energy.below, (0, 0, 1, 1)), F.pad(energy.beside, (1, 1))
    prices = torch.stack([below[:, :-1], beside[..., 1:], beside[..., :-1], below[:, 1:]])
    prices = prices.flatten(2).permute(2, 0, 1).index_select(0, board.order)  # (cells, 4, N)
    belief = _messages(unary, prices, board, rounds_of((height, width)) if rounds is None else rounds)
    level = _settled(unary, prices, belief, board)
    level = level.index_select(0, board.place).t().to(torch.int64, memory_format=torch.contiguous_format)
    return level.view(size, height, width)


@dataclass(frozen=True, eq=False)
class _Board:
    """Cells of a grid, all white ones before all black ones. Directions are up, right, left, down; d and 3 - d oppose.

    Args:
        order: (h * w,) places in the grid, row by row, of the cells in this order.
        place: (h * w,) the inverse.
        white: number of white cells; the first one is white.
        neighbour: for both colours (4 * cells of the colour,) their neighbours, counted among the other colour.
        answer: the same, rows of the messages that these neighbours send, as (cells, 4) of the direction that they got
            them from. Cells beyond the grid are stood in for by the first one, at a price of 0.
    """

    order: Tensor
    place: Tensor
    white: int
    neighbour: tuple[Tensor, Tensor]
    answer: tuple[Tensor, Tensor]


@functools.lru_cache(maxsize=64)
def _checkerboard(height: int, width: int, device: torch.device) -> _Board:
    """Made on the CPU once for each size and copied."""
    cells = torch.arange(height * width)
    row, column = cells // width, cells % width
    black = (row + column) % 2
    order = black.argsort(stable=True)
    place = torch.empty_like(order).index_copy_(0, order, cells)
    white = len(cells) - int(black.sum())
    towards = torch.tensor([[-1, 0], [0, 1], [0, -1], [1, 0]])
    there = torch.stack([row, column], 1)[order, None] + towards  # (cells, 4, 2)
    inside = ((there >= 0) & (there < torch.tensor([height, width]))).all(2)
    found = place[(there[..., 0] * width + there[..., 1]).clamp_(0, len(cells) - 1)]
    neighbours: list[Tensor] = []
    answers: list[Tensor] = []
    for own, first in ((slice(None, white), white), (slice(white, None), 0)):
        among = torch.where(inside[own], found[own] - first, 0)
        neighbours.append(among.flatten())
        answers.append(torch.where(inside[own], among * 4 + 3 - torch.arange(4), 0).flatten())
    order, place, *tables = to_device(device, order, place, *neighbours, *answers)
    return _Board(order, place, white, (tables[0], tables[1]), (tables[2], tables[3]))


def _messages(unary: Tensor, prices: Tensor, board: _Board, rounds: int) -> tuple[int, Tensor]:
    """Which colour was told last, and its (cells, levels, N) costs with what its neighbours say.

    Args:
        unary: (cells, levels, N) in the order of the board.
        prices: (cells, 4, N) of a step to each neighbour, 0 beyond the grid.
        board: tables of the grid.
        rounds: number of turns, of one colour each; at least 1.
    """
    levels, size = unary.shape[1:]
    sides = (board.white, len(unary) - board.white)
    share = torch.linspace(0, 1, levels, device=unary.device)
    # Each border is in one of the two kinds of trees, so its weight is 1/2 and its price counts twice.
    square = (share[:, None] - share).square().mul_(2)[..., None]  # (level told, level of the neighbour, 1)
    alone, price = unary.split(sides), prices[:, :, None, None].split(sides)
    told = [unary.new_zeros(cells, 4, levels, size) for cells in sides]
    # Written again and again: on a CPU new memory for each would cost more than the arithmetic.
    belief, sent, moved = torch.empty_like(alone[0]), torch.empty_like(told[0]), torch.empty_like(told[0])
    offers = unary.new_empty(board.white, 4, levels, levels, size)
    for turn in range(rounds + 1):
        to, by = turn % 2, 1 - turn % 2
        heard, offered = belief[: sides[by]], offers[: sides[to]]
        torch.sum(told[by], 1, out=heard)
        torch.add(alone[by], heard, alpha=0.5, out=heard)
        if turn == rounds:
            break
        torch.sub(heard[:, None], told[by], out=sent[: sides[by]])
        torch.index_select(sent.flatten(0, 1), 0, board.answer[to], out=moved.flatten(0, 1)[: 4 * sides[to]])
        torch.addcmul(moved[: sides[to], :, None], price[to], square, out=offered)
        torch.amin(offered, 3, out=told[to])
    return by, heard


def _settled(unary: Tensor, prices: Tensor, told: tuple[int, Tensor], board: _Board) -> Tensor:
    """(cells, N) float levels: each cell of one colour takes its best level given the other colour, in turns.

    Costs are convex, so the best level is the number of steps up that pay.
    """
    sides = (board.white, len(unary) - board.white)
    top, size = unary.shape[1] - 1, unary.shape[2]
    # The step from level i to i + 1 raises the cost by its slope, less what neighbours at high levels give.
    odd = torch.linspace(1, 2 * top - 1, top, device=unary.device).div_(top**2)[:, None]
    slopes = torch.addcmul(unary.diff(dim=1), prices.sum(1, keepdim=True), odd).split(sides)
    pull = (prices * (2 / top**2)).split(sides)
    colour, belief = told
    level = [belief, belief]
    level[colour] = (belief[:, 1:] < belief[:, :-1]).sum(1, dtype=torch.float32)
    for _ in range(SETTLING):
        other, colour = colour, 1 - colour
        around = level[other].index_select(0, board.neighbour[colour]).view(-1, 4, size)
        level[colour] = (slopes[colour] < around.mul_(pull[colour]).sum(1, keepdim=True)).sum(1, dtype=torch.float32)
    return torch.cat(level)
