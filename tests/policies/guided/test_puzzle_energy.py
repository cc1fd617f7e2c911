"""The energy is that of the paper; the solver is compared with exhaustive search and with exact graph cuts."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch.distributions import Binomial

from openmixup.policies.guided.puzzle_energy import Energy, border_costs, puzzle, rounds_of, solve, surprise

FLOOR, GAMMA, ETA = 1.2 / 16, 0.5, 0.2  # floor of a grid of one cell


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def problem(count, side, levels, seed=0, points=2):
    """Puzzles of smooth pictures with peaked saliency, at lam over the whole range."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels, size, width):
        noise = torch.randn(count * 2, channels, size, size, generator=generator)
        wide = F.interpolate(noise[..., ::width, ::width], size=(size, size), mode='bilinear')
        return ((wide + 0.3 * noise) / 4 + 0.5).clamp(0, 1)

    colours = smooth(3, side * points, 2).view(count, 2, 3, side * points, -1)
    saliency = (8 * smooth(1, side, 2)).exp().view(count, 2, side, side)
    saliency = saliency / saliency.sum((2, 3), keepdim=True)
    lam = torch.rand(count, generator=generator, dtype=torch.float64)
    scale = FLOOR / side * GAMMA / (3 * points)
    costs = border_costs(colours * scale, points)
    return puzzle(saliency, surprise(lam, levels) * (ETA / side**2), *costs, FLOOR / side)


def every_mask(levels, height, width):
    return torch.tensor(list(itertools.product(range(levels), repeat=height * width))).view(-1, height, width)


def least(energy):
    """(N,) least energy, by trying all masks."""
    masks = every_mask(energy.unary.shape[1], *energy.unary.shape[2:])
    parts = zip(energy.unary.double(), energy.below.double(), energy.beside.double(), strict=True)
    tried = [Energy(*(part.expand(len(masks), *part.shape) for part in one)).of(masks).amin() for one in parts]
    return torch.stack(tried)


def cut(energy):
    """(N, h, w) masks of least energy, by one minimum cut for each puzzle.

    A level is the number of its steps x_1 >= x_2 >= ... that are taken, each a node; the square of the difference of
    two sums of steps is one of pairs of steps, which are cut where one is taken and the other is not.
    """
    parts = zip(energy.unary.double(), energy.below.double(), energy.beside.double(), strict=True)
    return torch.stack([torch.tensor(_cut_one(*(part.numpy() for part in one))) for one in parts])


def _cut_one(unary, below, beside, unit=10**8):
    top, height, width = len(unary) - 1, *unary.shape[1:]
    cells = np.arange(height * width).reshape(height, width)
    first = np.concatenate([cells[:-1].ravel(), cells[:, :-1].ravel()])
    second = np.concatenate([cells[1:].ravel(), cells[:, 1:].ravel()])
    price = np.concatenate([below.ravel(), beside.ravel()]) / top**2
    around = np.bincount(first, price, cells.size) + np.bincount(second, price, cells.size)
    # (sum_p - sum_q)^2: squares of levels in each cell, and -2 x y = |x - y| - x - y for each pair of steps
    steps = np.diff(unary.reshape(top + 1, -1) + around * np.arange(top + 1)[:, None] ** 2, axis=0) - top * around
    node = 2 + np.arange(top * cells.size).reshape(top, -1)
    edges = []
    for one, other in itertools.product(range(top), repeat=2):
        edges += [(node[one, first], node[other, second], price), (node[other, second], node[one, first], price)]
    edges += [(node.ravel(), np.ones(node.size, int), np.maximum(steps, 0).ravel())]
    edges += [(np.zeros(node.size, int), node.ravel(), np.maximum(-steps, 0).ravel())]
    edges += [(node[k + 1], node[k], np.full(cells.size, 9.0)) for k in range(top - 1)]
    start, end, capacity = (np.concatenate(column) for column in zip(*edges, strict=True))
    graph = csr_matrix((np.rint(capacity * unit).astype(np.int32), (start, end)), shape=(node.size + 2,) * 2)
    left = graph - maximum_flow(graph, 0, 1).flow
    left.data[left.data < 0] = 0
    left.eliminate_zeros()
    reached = np.zeros(node.size + 2, bool)
    reached[breadth_first_order(left, 0, return_predecessors=False)] = True
    return reached[2:].reshape(top, height, width).sum(0)


def gaps(energy, best):
    """Mean of the relative gaps to the least energies, and the share of what simple masks miss that is missed too."""
    got = energy.of(solve(energy)).double()
    assert bool((got >= best - 1e-5).all())  # nobody is better than the best: the oracle is one
    shape, top = energy.unary[:, 0].shape, energy.unary.shape[1] - 1
    simple = [energy.unary.argmin(1), torch.zeros(shape, dtype=torch.long), torch.full(shape, top)]
    simplest = torch.stack([energy.of(mask).double() for mask in simple]).amin(0)
    return float((got / best - 1).mean()), float((got - best).sum() / (simplest - best).sum())


def test_surprise_is_that_of_a_binomial():
    lam = torch.tensor([0.1, 0.5, 0.83], dtype=torch.float64)
    for levels in (2, 3, 5):
        law = Binomial(levels - 1, probs=lam[:, None])
        expected = -law.log_prob(torch.arange(levels, dtype=torch.float64))
        torch.testing.assert_close(surprise(lam, levels), expected.float())
    assert bool(surprise(torch.tensor([0.0, 1.0], dtype=torch.float64), 3).isfinite().all())
    a = 0.3  # the paper's three levels; level 2 is the own image
    expected = torch.tensor([[-math.log((1 - a) ** 2), -math.log(2 * a * (1 - a)), -math.log(a**2)]])
    torch.testing.assert_close(surprise(torch.tensor([a], dtype=torch.float64), 3), expected)


@pytest.mark.parametrize('points', [1, 3])
def test_border_costs_compare_what_touches(points):
    height, width = 2, 3
    colours = random(2, 2, 3, height * points, width * points)
    down, across = border_costs(colours, points)
    assert down.shape == (2, 2, 2, height - 1, width)
    assert across.shape == (2, 2, 2, height, width - 1)
    for n, u, v in itertools.product(range(2), repeat=3):
        for row, column in itertools.product(range(height - 1), range(width)):
            at, cells = (row + 1) * points, slice(column * points, (column + 1) * points)
            expected = (colours[n, u, :, at - 1, cells] - colours[n, v, :, at, cells]).abs().sum()
            torch.testing.assert_close(down[n, u, v, row, column], expected)
        for row, column in itertools.product(range(height), range(width - 1)):
            at, cells = (column + 1) * points, slice(row * points, (row + 1) * points)
            expected = (colours[n, u, :, cells, at - 1] - colours[n, v, :, cells, at]).abs().sum()
            torch.testing.assert_close(across[n, u, v, row, column], expected)


def test_energy_is_the_true_cost_and_a_constant():
    height, width, floor = 2, 3, 0.07
    saliency, prices = random(1, 2, height, width), torch.tensor([[0.3, 0.11]])
    down, across = border_costs(random(1, 2, 3, height * 2, width * 2, seed=1), 2)
    energy = puzzle(saliency, prices, down, across, floor)
    masks = every_mask(2, height, width)
    got = Energy(*(part.expand(len(masks), *part.shape[1:]) for part in vars(energy).values())).of(masks)
    borders = [((row, column), (row + 1, column), down[0, ..., row, column]) for row in range(1) for column in range(3)]
    borders += [
        ((row, column), (row, column + 1), across[0, ..., row, column]) for row in range(2) for column in range(2)
    ]
    constant = sum((d[0, 1] + d[1, 0]) / 2 for _, _, d in borders)
    for mask, value in zip(masks.tolist(), got, strict=True):
        true = 0.0
        for row, column in itertools.product(range(height), range(width)):
            own = mask[row][column]
            true += saliency[0, own, row, column] + prices[0, own]  # own shown: the partner's saliency (1) is lost
        for (i, j), (m, n), d in borders:
            shown = (1 - mask[i][j], 1 - mask[m][n])
            true += d[shown] + floor * (shown[0] != shown[1])
        torch.testing.assert_close(value, true + constant)


def test_saliency_is_not_altered():
    saliency = random(1, 2, 3, 3)
    before = saliency.clone()
    puzzle(saliency, torch.zeros(1, 2), *border_costs(random(1, 2, 3, 3, 3), 1), 0.1)
    assert torch.equal(saliency, before)


def test_prices_of_steps_are_at_least_floor_times_one_minus_gamma():
    floor = 0.3
    scale = floor * GAMMA / (3 * 2)

    def prices(colours):
        saliency = torch.zeros(len(colours), 2, colours.shape[-2] // 2, colours.shape[-1] // 2)
        energy = puzzle(saliency, torch.zeros(1, 3), *border_costs(colours * scale, 2), floor)
        return torch.cat([energy.below.flatten(), energy.beside.flatten()])

    found = prices(random(64, 2, 3, 8, 8).round())  # black and white
    assert float(found.min()) >= floor * (1 - GAMMA) - 1e-6
    assert float(found.max()) <= floor * (1 + GAMMA) + 1e-6
    edge = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 3, 2, 4)  # from black to white at the border
    torch.testing.assert_close(prices(torch.stack([edge, edge], 1)), torch.tensor([floor]))
    torch.testing.assert_close(prices(torch.stack([edge, 1 - edge], 1)), torch.tensor([floor * (1 - GAMMA)]))
    flat = torch.stack([torch.zeros(1, 3, 2, 4), torch.ones(1, 3, 2, 4)], 1)
    torch.testing.assert_close(prices(flat), torch.tensor([floor * (1 + GAMMA)]))


@pytest.mark.parametrize(('side', 'levels'), [(2, 2), (2, 3), (2, 5), (3, 2), (3, 3)])
def test_solver_is_as_good_as_exhaustive_search(side, levels):
    energy = problem(24 if side == 3 and levels == 3 else 120, side, levels, seed=side)
    best = least(energy)
    torch.testing.assert_close(energy.of(cut(energy)).double(), best, rtol=1e-5, atol=1e-6)  # so the cuts are exact
    mean, missed = gaps(energy, best)
    assert mean < 0.002
    assert missed < 0.05


@pytest.mark.parametrize(
    ('side', 'levels', 'count'),
    [(4, 2, 200), (4, 3, 200), (4, 4, 200), (8, 2, 200), (8, 3, 200), (16, 2, 60), (16, 3, 60)],
)
def test_solver_is_within_one_percent_of_exact_graph_cuts(side, levels, count):
    energy = problem(count, side, levels, seed=side)
    mean, missed = gaps(energy, energy.of(cut(energy)).double())
    assert mean < 0.01
    assert missed < 0.02


def test_more_rounds_come_nearer():
    energy = problem(100, 8, 3)
    best = energy.of(cut(energy)).double()
    missed = [float((energy.of(solve(energy, rounds)).double() - best).mean()) for rounds in (1, 4, 12, 60)]
    assert missed == sorted(missed, reverse=True)
    assert missed[-1] < 0.05 * missed[0]
    assert [rounds_of((side, side)) for side in (2, 4, 8, 16, 32)] == [8, 9, 12, 24, 40]


def test_cells_that_are_free_take_their_best_level_and_chained_ones_agree():
    unary = random(5, 3, 4, 6).cumsum(1)  # rising ...
    unary += torch.arange(3).sub(1).square()[:, None, None] * 3  # ... and convex enough
    free = Energy(unary, torch.zeros(5, 3, 6), torch.zeros(5, 4, 5))
    assert torch.equal(solve(free), unary.argmin(1))
    chained = Energy(unary, torch.full((5, 3, 6), 1e4), torch.full((5, 4, 5), 1e4))
    expected = unary.sum((2, 3)).argmin(1)
    assert torch.equal(solve(chained), expected[:, None, None].expand(5, 4, 6))


def test_puzzles_of_a_batch_are_solved_each_for_itself_on_any_grid():
    generator = torch.Generator().manual_seed(0)
    unary = torch.rand(6, 2, 2, 5, generator=generator)
    energy = Energy(unary, torch.rand(6, 1, 5, generator=generator) / 4, torch.rand(6, 2, 4, generator=generator) / 4)
    together = solve(energy)
    assert together.shape == (6, 2, 5)
    assert together.dtype == torch.int64
    torch.testing.assert_close(energy.of(together).double(), least(energy))
    for i in range(6):
        alone = Energy(unary[i : i + 1], energy.below[i : i + 1], energy.beside[i : i + 1])
        assert torch.equal(solve(alone)[0], together[i])
