"""Soft assignments by optimal transport: against plain turns in double precision, and at any scale."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openmixup.policies.feature.sinkhorn import annealed_plan, plain_plan, similarity

EPS = 0.1


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, n, m) float64, the slow way."""
    return (a[:, :, None].double() - b[:, None].double()).square().sum(-1)


def plain_turns(cost: Tensor, eps: float, turns: int) -> Tensor:
    """The algorithm as it stands in books, in the log domain and in float64, the row step last; times n."""
    column = torch.zeros_like(cost[:, :1])
    for _ in range(turns):
        row = -torch.logsumexp(column - cost / eps, 2, keepdim=True)
        column = -torch.logsumexp(row - cost / eps, 1, keepdim=True)
    return (column - cost / eps).softmax(2)


def turns_of_the_authors(cost: Tensor, eps: float, turns: int, rows_first: bool) -> Tensor:
    """(n, m) of one pair: potentials in units of the cost; all turns, where their code may stop before."""
    cost = cost if rows_first else cost.T
    shares = [-torch.tensor(float(count), dtype=cost.dtype).log() for count in cost.shape]
    u, v = torch.zeros_like(cost[:, 0]), torch.zeros_like(cost[0])
    for _ in range(turns):
        u = eps * (shares[0] - torch.logsumexp((u[:, None] + v - cost) / eps, 1)) + u
        v = eps * (shares[1] - torch.logsumexp((u[:, None] + v - cost) / eps, 0)) + v
    plan = ((u[:, None] + v - cost) / eps).exp()
    plan = plan if rows_first else plan.T
    return plan / plan.sum(1, keepdim=True)


def off_by(plan: Tensor) -> float:
    """Mean of abs(sum - 1) of the columns."""
    return float((plan.sum(1) - 1).abs().mean())


@pytest.mark.parametrize(('size', 'cells', 'channels', 'scale'), [(6, 16, 32, 0.05), (3, 49, 64, 0.03), (2, 5, 3, 0.1)])
def test_equals_the_converged_plan_of_plain_turns(size, cells, channels, scale):
    a, b = scale * noise(size, cells, channels), scale * noise(size, cells, channels, seed=1) + 0.2
    expected = plain_turns(squared_distances(a, b), EPS, 3000)
    assert off_by(expected) < 1e-6
    torch.testing.assert_close(annealed_plan(similarity(a, b), EPS, 400).double(), expected, rtol=2e-3, atol=2e-5)


def test_rows_and_columns_are_not_mixed_up():
    """The row step comes last, so a plan that is far from the marginals shows which one is exact."""
    plan = annealed_plan(similarity(noise(4, 9, 8), noise(4, 9, 8, seed=1)), EPS, 1)
    torch.testing.assert_close(plan.sum(2), torch.ones(4, 9))
    assert off_by(plan) > 0.01


@pytest.mark.parametrize('scale', [1e-4, 0.1, 1.0, 10.0, 1e4])
@pytest.mark.parametrize(('size', 'cells', 'channels'), [(16, 16, 512), (4, 49, 2048)])
def test_marginals_hold_for_maps_of_any_scale(size, cells, channels, scale):
    a, b = (scale * noise(size, cells, channels, seed=seed).relu() for seed in (0, 1))
    plan = annealed_plan(similarity(a, b), EPS, 50)
    assert bool(plan.isfinite().all())
    assert bool((plan >= 0).all())
    torch.testing.assert_close(plan.sum(2), torch.ones(size, cells))
    assert off_by(plan) < (0.01 if scale <= 1 else 0.03)


@pytest.mark.parametrize(('count', 'channels', 'scale', 'most'), [
    (49, 512, 1.0, 0.05), (49, 512, 1e3, 0.1), (16, 64, 1e3, 0.01), (16, 512, 1e4, 0.03),
])  # fmt: skip
def test_marginals_hold_for_cells_of_different_lengths(count, channels, scale, most):
    lengths = scale * torch.rand(8, count, 1, generator=torch.Generator().manual_seed(2)) ** 4
    a, b = (lengths.roll(shift, 0) * noise(8, count, channels, seed=shift).relu() for shift in (0, 1))
    assert off_by(annealed_plan(similarity(a, b), EPS, 50)) < most


def test_the_falling_temperature_is_worth_more_than_a_hundred_turns():
    a, b = noise(4, 49, 2048).relu(), noise(4, 49, 2048, seed=1).relu()
    assert off_by(plain_turns(squared_distances(a, b), EPS, 100)) > 0.2
    errors = [off_by(annealed_plan(similarity(a, b), EPS, turns)) for turns in (10, 50, 250)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize('make', [
    lambda a: (a.index_fill(1, torch.tensor(3), 1e3), a.roll(1, 0)),  # one cell far from all others
    lambda a: (a[:, torch.arange(16) // 4], a.roll(1, 0)),  # groups of equal cells
    lambda a: (a * (torch.arange(16) % 2)[:, None], a.roll(1, 0) * (torch.arange(16) % 4 > 1)[:, None]),  # dead cells
], ids=['outlier', 'groups', 'zeros'])  # fmt: skip
def test_odd_maps_give_sound_plans(make):
    plan = annealed_plan(similarity(*make(noise(6, 16, 256).relu())), EPS, 50)
    assert bool(plan.isfinite().all())
    torch.testing.assert_close(plan.sum(2), torch.ones(6, 16))
    assert off_by(plan) < 0.05


def test_without_differences_every_cell_is_matched_alike():
    a = noise(2, 1, 8).expand(-1, 7, -1)
    torch.testing.assert_close(
        annealed_plan(similarity(a, noise(2, 7, 8, seed=1)), EPS, 50), torch.full((2, 7, 7), 1 / 7)
    )


def test_equal_cells_find_each_other():
    a = noise(4, 16, 64)
    shuffle = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    found = annealed_plan(similarity(a, a[:, shuffle]), EPS, 50)
    expected = torch.eye(16)[:, shuffle].expand(4, -1, -1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize('rows_first', [True, False])
@pytest.mark.parametrize(('scale', 'turns'), [(0.2, 40), (1.0, 40), (3.0, 7)])
def test_plain_turns_are_those_of_the_authors(scale, turns, rows_first):
    a, b = scale * noise(1, 16, 24), scale * noise(1, 16, 24, seed=1) + 0.1
    expected = turns_of_the_authors(squared_distances(a, b)[0], EPS, turns, rows_first)
    found = plain_plan(similarity(a, b), EPS, turns, rows_first)
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-2, atol=1e-5)
    other = plain_plan(similarity(a, b), EPS, turns, not rows_first)
    assert scale < 1 or float((other - found).abs().max()) > 0.01


@pytest.mark.parametrize('rows_first', [True, False])
@pytest.mark.parametrize('scale', [0.3, 1.0, 3.0])
def test_a_hundred_plain_turns_lose_little_to_float32(scale, rows_first):
    a, b = scale * noise(4, 16, 512).relu(), scale * noise(4, 16, 512, seed=1).relu()
    scores = similarity(a, b)
    expected = plain_plan(scores.double(), EPS, 100, rows_first)
    torch.testing.assert_close(plain_plan(scores, EPS, 100, rows_first).double(), expected, rtol=0, atol=5e-3)


def test_a_single_cell_and_any_number_of_turns():
    assert torch.equal(annealed_plan(similarity(noise(3, 1, 4), noise(3, 1, 4, seed=1)), EPS, 7), torch.ones(3, 1, 1))
    for turns in range(1, 13):
        plan = annealed_plan(similarity(noise(2, 4, 3), noise(2, 4, 3, seed=1)), EPS, turns)
        torch.testing.assert_close(plan.sum(2), torch.ones(2, 4))


def test_similarity_is_minus_the_distance_up_to_terms_of_a_single_cell():
    a, b = noise(3, 6, 20) + 2, noise(3, 9, 20, seed=1)
    expected = -squared_distances(a, b)
    torch.testing.assert_close(similarity(a, b).double(), expected, rtol=1e-4, atol=1e-4)
    rest = similarity(a, b, whole=False) - expected
    rest = rest - rest.mean(1, keepdim=True)
    torch.testing.assert_close(rest - rest.mean(2, keepdim=True), torch.zeros_like(rest), rtol=0, atol=1e-4)


def test_autocast_takes_no_digits_away():
    a, b = noise(3, 6, 300), noise(3, 6, 300, seed=1)
    expected = similarity(a, b)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(similarity(a, b), expected)
        assert not torch.equal(torch.bmm(a, b.mT).float(), torch.bmm(a.double(), b.mT.double()).float())


def test_the_scores_are_left_alone_and_nothing_is_read():
    scores = similarity(noise(3, 6, 8), noise(3, 6, 8, seed=1))
    before = scores.clone()
    annealed_plan(scores, EPS, 20)
    plain_plan(scores, EPS, 20, True)
    assert torch.equal(scores, before)
    scores.requires_grad_(True)
    assert not annealed_plan(scores, EPS, 20).requires_grad
    assert not plain_plan(scores, EPS, 20, True).requires_grad
    hollow = torch.empty(3, 6, 8, device='meta')
    assert annealed_plan(similarity(hollow, hollow), EPS, 20).shape == (3, 6, 6)
    assert plain_plan(similarity(hollow, hollow), EPS, 20, True).shape == (3, 6, 6)
