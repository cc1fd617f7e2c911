"""The energy of Co-Mixup and its descent against plain loops."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from openmixup.policies.guided.comixup_energy import Parts, solve

MISSING = 1e6


def problem(count, size, grid, seed=0, short=(), omega=0.0, power=4, **prices):
    """Random parts, with the start of the descent; the parts in ``short`` lack their last image."""
    rng, cells = torch.Generator().manual_seed(seed), grid[0] * grid[1]
    saliency = torch.rand(count, size, cells, generator=rng).pow(power)
    cost = -saliency / saliency.sum(2, keepdim=True) - 0.05 / cells * torch.rand(count, size, 1, generator=rng).log()
    apart = torch.rand(count, size, size, generator=rng)
    apart = (apart + apart.mT) * (1 - torch.eye(size))
    relation = (1 - omega) * torch.eye(size) + omega * size * apart / apart.sum((1, 2), keepdim=True)
    labels = torch.randint(size - bool(short), (count, size, cells), generator=rng)
    start = functional.one_hot(labels, size).sum(2).float()
    present = torch.tensor([float(p not in short) for p in range(count)])
    start[:, -1] *= present[:, None]
    cost[:, -1] += MISSING * (1 - present[:, None])
    prices = {'beta': 0.32, 'gamma': 1.0, 'tau': 0.83, **prices}
    parts = Parts(
        cost,
        relation,
        present if short else None,
        grid,
        prices['beta'] / cells,
        prices['gamma'] / cells,
        prices['tau'] * cells,
    )
    return parts, start.transpose(0, 1).contiguous()


def part_of(parts, start, p):
    """One part in float64, without an image that is missing: cost (K, h, w), relation, start (K, K)."""
    size = parts.cost.shape[1] - int(parts.present is not None and float(parts.present[p]) == 0)
    cost, relation = parts.cost[p, :size].double().numpy(), parts.relation[p, :size, :size].double().numpy()
    return cost.reshape(size, *parts.grid), relation, start[:size, p, :size].double().numpy()


def energy(shares, cost, relation, parts):
    """Of shares (K, K, h, w) by loops."""
    size, (height, width) = len(cost), parts.grid
    total = 0.0
    for k in range(size):
        total += (shares[k] * cost).sum()
        for r, c in itertools.product(range(height), range(width)):
            for other in ((r + 1, c), (r, c + 1)):
                if other[0] < height and other[1] < width:
                    total += parts.beta / 2 * ((shares[k, :, r, c] - shares[k][:, other[0], other[1]]) ** 2).sum()
    counts = shares.sum((2, 3))
    return total + parts.gamma * sum(
        (used * counts[k])[used > parts.limit].sum()
        for k in range(size)
        for used in [relation @ sum(counts[other] for other in range(size) if other != k)]
    )


def rectangles(grid):
    for top, left in itertools.product(range(grid[0]), range(grid[1])):
        for bottom, right in itertools.product(range(top + 1, grid[0] + 1), range(left + 1, grid[1] + 1)):
            yield slice(top, bottom), slice(left, right)


def borders_of(label, grid):
    return sum(
        int(label[r, c] != label[r + dr, c + dc])
        for r, c in itertools.product(range(grid[0]), range(grid[1]))
        for dr, dc in ((1, 0), (0, 1))
        if r + dr < grid[0] and c + dc < grid[1]
    )


def first_visit(counts, k, cost, relation, parts):
    """Labels (h, w): the best image in a rectangle of another one, at prices that are linear in the cells."""
    used = relation @ sum(counts[other] for other in range(len(cost)) if other != k)
    linear = cost + 2 * parts.gamma * np.where(used > parts.limit, used, 0.0)[:, None, None]
    best, value = None, np.inf
    for area in rectangles(parts.grid):
        for inner, outer in itertools.product(range(len(cost)), repeat=2):
            label = np.full(parts.grid, outer)
            label[area] = inner
            found = np.take_along_axis(linear, label[None], 0).sum() + parts.beta * borders_of(label, parts.grid)
            if found < value - 1e-12:
                best, value = label, found
    return best


def later_visit(shares, k, cost, relation, parts):
    """The best of all rectangles of one image, or half and half of the two that are shown most, by the full energy."""
    size = len(cost)
    counts = shares[k].sum((1, 2))
    labels = list(np.eye(size))
    two = sorted(range(size), key=lambda image: (-counts[image], image))[:2]
    labels.append(np.isin(np.arange(size), two) / 2)
    best, value = shares, energy(shares, cost, relation, parts)
    for area, label in itertools.product(rectangles(parts.grid), labels):
        other = shares.copy()
        other[k][:, area[0], area[1]] = label[:, None, None]
        found = energy(other, cost, relation, parts)
        if found < value - 1e-9:
            best, value = other, found
    return best


def descent(cost, relation, start, parts, sweeps):
    """Shares (K, K, h, w) by loops."""
    size, counts = len(cost), start.copy()
    shares = np.zeros((size, size, *parts.grid))
    for k in range(size):
        label = first_visit(counts, k, cost, relation, parts)
        shares[k] = label == np.arange(size)[:, None, None]
        counts[k] = shares[k].sum((1, 2))
    for _ in range(sweeps - 1):
        for k in range(size):
            shares = later_visit(shares, k, cost, relation, parts)
    plain = np.eye(size)[:, :, None, None] * np.ones(parts.grid)
    return plain if energy(plain, cost, relation, parts) < energy(shares, cost, relation, parts) - 1e-4 else shares


def shares_of(found, p, size, grid):
    return found[:size, p, :size].double().numpy().reshape(size, size, *grid)


CASES = [
    (2, (2, 2), 3, {}), (3, (2, 3), 4, {'tau': 0.5}), (4, (3, 3), 3, {'beta': 0.1, 'gamma': 0.4}),
    (4, (4, 2), 2, {'tau': 0.0, 'gamma': 0.02}), (3, (4, 4), 2, {}), (3, (3, 2), 4, {'beta': 1.0, 'tau': 0.3}),
]  # fmt: skip


@pytest.mark.parametrize(
    ('size', 'grid', 'sweeps', 'prices', 'short'),
    [(*case, short) for case in CASES for short in ((), (1,)) if case[0] - len(short) > 1],
)
def test_the_descent_is_that_of_plain_loops(size, grid, sweeps, prices, short):
    parts, start = problem(2, size, grid, seed=size, short=short, **prices)
    found = solve(parts, start, sweeps)
    energies = parts.of(found)
    for p in range(2):
        cost, relation, begin = part_of(parts, start, p)
        expected = descent(cost, relation, begin, parts, sweeps)
        assert np.array_equal(shares_of(found, p, len(cost), grid), expected)
        assert float(energies[p]) == pytest.approx(energy(expected, cost, relation, parts), abs=1e-5)
        assert found[:, p].sum() == len(cost) * grid[0] * grid[1]  # a mixture that is not there shows nothing


@pytest.mark.parametrize('grid', [(4, 4), (2, 5), (8, 8)])
def test_the_energy_is_that_of_plain_loops(grid):
    """Of any shares, halves and thirds too, with a relation that is not diagonal."""
    parts, _ = problem(2, 4, grid, omega=0.3, tau=0.7)
    shares = torch.rand(4, 2, 4, grid[0] * grid[1], generator=torch.Generator().manual_seed(1)).softmax(2)
    shares[:, 1] = functional.one_hot(shares[:, 1].argmax(1), 4).mT
    for p in range(2):
        cost, relation, _ = part_of(parts, torch.zeros(4, 2, 4), p)
        expected = energy(shares_of(shares, p, 4, grid), cost, relation, parts)
        assert float(parts.of(shares)[p]) == pytest.approx(expected, rel=1e-5)


def labelled(labels, size):
    """(K, 1, K, cells) shares of labels, one text of cells for each mixture."""
    return functional.one_hot(torch.tensor([[int(cell) for cell in text] for text in labels]), size).mT[:, None].float()


def test_an_image_counts_as_used_up_from_above_the_limit_on():
    """Three mixtures of 2 x 2 cells. Image 0 is shown on 4, 2 and 1 of them: elsewhere on 3, 5 and 6."""
    shares = labelled(['0000', '0011', '0222'], 3)
    for tau, expected in ((0.7, 3 * 4 + 5 * 2 + 6 * 1), (0.75, 5 * 2 + 6 * 1), (1.25, 6 * 1), (1.5, 0)):
        parts = Parts(torch.zeros(1, 3, 4), torch.eye(3)[None], None, (2, 2), 0.0, 0.5, tau * 4)
        assert float(parts.of(shares)) == 0.5 * expected


def test_a_border_of_a_half_costs_a_quarter():
    half = labelled(['01', '00'], 3)
    half[0, 0, :, 1] = torch.tensor([0.5, 0.5, 0.0])
    for shares, borders in (
        (labelled(['01', '00'], 3), 1), (half, 0.25), (half[..., [1, 1]], 0), (labelled(['01', '12'], 3), 2),
    ):  # fmt: skip
        parts = Parts(torch.zeros(1, 3, 2), torch.eye(3)[None], None, (1, 2), 0.6, 0.0, 0.0)
        assert float(parts.of(shares)) - (0.0 if shares.shape[-1] == 2 else 1) == pytest.approx(0.6 * borders)


@pytest.mark.parametrize('size', [2, 3, 6, 20])
@pytest.mark.parametrize('power', [0, 1, 8])
def test_it_costs_never_more_than_plain_images_and_sweeps_only_lower_it(size, power):
    for seed in range(3):
        parts, start = problem(8, size, (4, 4), seed, power=power, short=(1, 4, 5) if size > 2 else ())
        images = torch.eye(size)[:, None, :, None].repeat(1, 8, 1, 16)
        if size > 2:
            images[-1, [1, 4, 5]] = 0
        plain = before = parts.of(images)
        for sweeps in range(1, 6):
            now = parts.of(solve(parts, start, sweeps))
            assert bool((now <= before + 1e-4).all())
            before = now
        if power == 8:
            assert float(before.mean()) < float(plain.mean()) - 0.2 * size


def test_it_costs_less_than_what_it_starts_from():
    """A random labelling; only two images may by luck be labelled better than a descent ends."""
    rng = torch.Generator().manual_seed(0)
    for size in (3, 6, 20):
        parts, _ = problem(20, size, (4, 4))
        shares = functional.one_hot(torch.randint(size, (size, 20, 16), generator=rng), size).mT.float()
        assert bool((parts.of(solve(parts, shares.sum(3), 2)) < parts.of(shares)).all())


def test_two_mixtures_of_few_cells_are_near_the_least_energy_of_all():
    parts, start = problem(40, 2, (2, 2), seed=5)
    values = torch.tensor(list(itertools.product((0.0, 0.5, 1.0), repeat=8))).view(-1, 2, 4)  # 6561 of image 0
    every = torch.stack([values, 1 - values], 2).transpose(0, 1)  # (2, 6561, 2, 4)
    gaps = []
    for p, found in enumerate(parts.of(solve(parts, start, 4)).tolist()):
        many = Parts(
            parts.cost[p : p + 1], parts.relation[p : p + 1], None, (2, 2), parts.beta, parts.gamma, parts.limit
        )
        least = float(many.of(every).min())
        assert found >= least - 1e-5
        gaps.append((found - least) / abs(least))
    assert float(np.mean(gaps)) < 0.06
    assert sum(gap < 1e-5 for gap in gaps) > 20


def test_objects_that_are_far_apart_share_a_mixture():
    """The first three images are near to each other, and so are the others; costs know nothing of it."""
    far = (torch.arange(6)[:, None] < 3) != (torch.arange(6) < 3)
    together = {}
    for omega in (0.0, 0.5):
        parts, start = problem(60, 6, (4, 4), gamma=0.2)
        relation = (1 - omega) * torch.eye(6) + omega * 6 * far / far.sum()
        parts = Parts(parts.cost, relation.expand(60, -1, -1), None, (4, 4), parts.beta, parts.gamma, parts.limit)
        counts = solve(parts, start, 4).sum(3)
        pairs = torch.einsum('kpi,kpj->ij', counts, counts)
        together[omega] = float((pairs * far).sum() / (pairs * (1 - torch.eye(6))).sum())
    assert together[0.0] == pytest.approx(0.6, abs=0.05)  # 9 of the 15 pairs
    assert together[0.5] > 0.7


def test_a_half_may_bring_in_an_image_and_of_equal_ones_the_first():
    """Two cells. Image 2 is shown by all; half of 0 or 1 gains 0.45 at the left and costs a border of 1/4."""
    cost = torch.tensor([[-0.9, 5.0], [-0.9, 5.0], [0.0, 0.0]])
    parts = Parts(cost[None], torch.eye(3)[None], None, (1, 2), 1.0, 0.0, 2.0)
    half = torch.tensor([[0.5, 0.0], [0.0, 0.0], [0.5, 1.0]])
    assert torch.equal(solve(parts, torch.zeros(3, 1, 3), 2), half.expand(3, 1, -1, -1))


def test_few_mixtures_are_of_the_same_images():
    parts, start = problem(10, 20, (4, 4), seed=2)
    used = (solve(parts, start, 2).sum(3) > 0).transpose(0, 1)
    alike = (used[:, :, None] == used[:, None]).all(3).sum(2) > 1
    assert float(alike.float().mean()) < 0.1


def test_parts_do_not_depend_on_each_other():
    parts, start = problem(6, 5, (4, 4), short=(2, 4))
    found = solve(parts, start, 3)
    for p in range(6):
        one = Parts(
            parts.cost[p : p + 1],
            parts.relation[p : p + 1],
            parts.present[p : p + 1],
            parts.grid,
            parts.beta,
            parts.gamma,
            parts.limit,
        )
        assert torch.equal(solve(one, start[:, p : p + 1], 3), found[:, p : p + 1])
