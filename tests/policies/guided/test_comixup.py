"""Co-Mixup: the policy. Its energy and the descent are in test_comixup_energy.py."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.policies import Batch, CoMixup, Context
from openmixup.policies.guided import comixup
from openmixup.policies.guided.comixup_energy import solve
from openmixup.testing import check_policy, count_operators

SIZES = [(32, 32), (28, 28), (7, 11), (2, 3), (64, 48)]


class Probe:
    """Gives gradients that a test has made, and keeps what they were asked of."""

    def __init__(self, gradient=None):
        self.gradient, self.asked = gradient, []

    def input_grad(self, images, labels):
        self.asked.append((images, labels))
        return random(*images.shape, seed=9).pow(3) if self.gradient is None else self.gradient


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def context(gradient=None, seed=0):
    return Context(probe=Probe(gradient), generator=torch.Generator().manual_seed(seed))


def view(policy, images, gradient=None, seed=0):
    return policy(Batch(images, torch.arange(len(images))), context(gradient, seed)).views[0]


def origins(size, height, width):
    """Image i is 1 in channel i."""
    return torch.eye(size)[:, :, None, None].expand(-1, -1, height, width).contiguous()


def spots(cells, size=32, side=4, faint=1e-3):
    """(N, 3, size, size) gradients that are 1 in the cells of each image, and little elsewhere."""
    gradient = torch.full((len(cells), 3, size, size), faint)
    part = size // side
    for one, places in zip(gradient, cells, strict=True):
        for row, column in places:
            one[:, row * part : (row + 1) * part, column * part : (column + 1) * part] = -1.0
    return gradient


def seen_by_the_solver(monkeypatch):
    seen = []

    def spy(*arguments):
        seen.append(arguments)
        return solve(*arguments)

    monkeypatch.setattr('openmixup.policies.guided.comixup.solve', spy)
    return seen


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('count', 'part'), [(2, 20), (3, 3), (4, 3), (7, 3), (9, 20), (11, 4)])
def test_pixels_of_all_sizes_have_the_shares_of_the_weights(size, count, part):
    for seed in range(3):
        found = view(CoMixup(part=part, sweeps=3), origins(count, *size), seed=seed)
        index, weight = found.mixture.index, found.mixture.weight
        expected = torch.zeros(count, count).scatter_add_(1, index, weight)
        torch.testing.assert_close(found.inputs.mean((2, 3)), expected)
        torch.testing.assert_close(found.masks.mean((2, 3)), weight)
        torch.testing.assert_close(weight.sum(1), torch.ones(count))
        shown = torch.zeros(count, count, *size).scatter_add_(
            1, index[..., None, None].expand_as(found.masks), found.masks
        )
        assert torch.equal(shown, found.inputs)
        assert torch.isin(found.inputs, torch.tensor([0.0, 0.5, 1.0])).all()


def test_each_sample_is_made_of_its_part_only_and_parts_differ_by_one():
    for count, part, sizes in ((7, 3, {3: 3, 2: 4}), (21, 20, {11: 11, 10: 10}), (20, 20, {20: 20}), (5, 64, {5: 5})):
        index = view(CoMixup(part=part), origins(count, 8, 8)).mixture.index
        assert torch.equal(index[:, 0], torch.arange(count))
        parts = [frozenset(row) for row in index.tolist()]
        assert all(parts[other] == parts[sample] for sample in range(count) for other in parts[sample])
        assert {length: sum(len(p) == length for p in parts) for length in sizes} == sizes
        again = view(CoMixup(part=part), origins(count, 8, 8), seed=1).mixture.index
        assert (count <= part) == ({frozenset(row) for row in again.tolist()} == set(parts))


def test_a_missing_image_has_no_weight_and_its_mixture_nothing(monkeypatch):
    found = []

    def spy(parts, *given):
        found.append((parts.present, solve(parts, *given)))
        return found[-1][1]

    monkeypatch.setattr(comixup, 'solve', spy)
    for seed in range(10):
        view(CoMixup(part=3), origins(7, 8, 8), seed=seed)
    for present, shares in found:
        short = present == 0
        assert short.sum() == 2  # of 3 + 2 + 2 images
        assert not shares[:, short, -1].any()
        assert not shares[-1, short].any()
        assert torch.equal(shares.sum(2)[:-1], torch.ones_like(shares.sum(2)[:-1]))


def test_a_batch_of_one_stays_as_it_is_even_beside_a_bank():
    images = origins(3, 8, 8)
    batch = Batch(images[:1], torch.zeros(1, dtype=torch.long), Batch(images, torch.zeros(3, dtype=torch.long)))
    plan = CoMixup().train()(batch, Context(generator=torch.Generator()))
    assert [view.inputs is batch.images for view in plan.views] == [True]


def test_the_operators_of_a_full_part_are_those_that_it_says():
    for part, sweeps in ((20, 4), (20, 2), (5, 1)):
        policy = CoMixup(part=part, sweeps=sweeps)
        images = torch.ones(part, 3, 32, 32, device='meta')
        found = count_operators(policy, images, torch.zeros(part, dtype=torch.long, device='meta'))
        assert 0.9 * policy.operators < found <= policy.operators


@pytest.mark.parametrize('count', [6, 7])
def test_the_energy_is_that_of_the_paper(count, monkeypatch):
    """Cost, prices and the relation of the images, from gradients by plain loops."""
    seen = seen_by_the_solver(monkeypatch)
    gradient = random(count, 3, 32, 32, seed=3).pow(3)
    energy = {'beta': 0.4, 'gamma': 0.9, 'tau': 0.5, 'eta': 0.3, 'omega': 0.2}
    policy = CoMixup(alpha=1.5, part=4, energy=energy)
    found = view(policy, random(count, 3, 32, 32), gradient)
    ((parts, start, sweeps),) = seen
    assert (parts.grid, sweeps) == ((4, 4), 4)
    assert np.allclose([parts.beta, parts.gamma, parts.limit], [0.4 / 16, 0.9 / 16, 0.5 * 16])
    saliency = np.sqrt((gradient.double().numpy() ** 2).mean(1))
    pooled = saliency.reshape(count, 4, 8, 4, 8).mean((2, 4)).reshape(count, 16)
    pooled = pooled / pooled.sum(1, keepdims=True)
    corner = []
    for one in saliency:
        sums = {(r, c): one[r : r + 8, c : c + 8].sum() for r in range(25) for c in range(25)}
        corner.append(np.array(max(sums, key=sums.get)))
    draws = torch.Generator().manual_seed(0)
    order = torch.randperm(count, generator=draws).tolist() + [None] * (-count % 2)
    members = [order[0::2], order[1::2]]
    law = torch._sample_dirichlet(torch.full((2, len(members[0])), 1.5).double(), generator=draws).numpy()
    for p, part in enumerate(members):
        there = [i for i, image in enumerate(part) if image is not None]
        apart = np.array([[np.abs(corner[part[i]] - corner[part[j]]).sum() for j in there] for i in there])
        relation = 0.8 * np.eye(len(there)) + 0.2 * len(there) * apart / apart.sum()
        assert np.allclose(parts.relation[p].numpy()[np.ix_(there, there)], relation, atol=1e-6)
        cost = [-pooled[part[i]] - 0.3 / 16 * np.log(law[p, i]) for i in there]
        assert np.allclose(parts.cost[p].numpy()[there], cost, atol=1e-6)
        assert (parts.cost[p, len(there) :] > 1e5).all()
        assert set(found.mixture.index[part[0]].tolist()) == {part[i] for i in there}
        counts = start[:, p]
        assert torch.equal(counts.sum(1), torch.tensor([16.0] * len(there) + [0.0] * (len(part) - len(there))))
        assert counts[:, len(there) :].sum() == 0


@pytest.mark.parametrize('size', [(7, 11), (2, 3), (5, 5)])
def test_prices_are_per_cell_of_the_grid_that_fits(size, monkeypatch):
    seen = seen_by_the_solver(monkeypatch)
    view(CoMixup(grid=5, energy={'omega': 0}), random(4, 3, *size))
    parts = seen[0][0]
    cells = min(5, size[0]) * min(5, size[1])
    assert parts.grid == (min(5, size[0]), min(5, size[1]))
    assert np.allclose([parts.beta, parts.gamma, parts.limit], [0.32 / cells, 1 / cells, 0.83 * cells])
    assert torch.equal(parts.relation, torch.eye(4).expand(1, -1, -1))


def test_without_prices_all_mixtures_are_that_of_the_largest_saliency():
    images, gradient = random(5, 3, 16, 16), random(5, 3, 16, 16, seed=3).pow(3)
    saliency = gradient.square().mean(1).sqrt().view(5, 4, 4, 4, 4).mean((2, 4))
    owner = (saliency / saliency.sum((1, 2), keepdim=True)).argmax(0)
    best = torch.stack([images[owner[r // 4, c // 4], :, r, c] for r in range(16) for c in range(16)], 1)
    free = {'beta': 0, 'gamma': 0, 'eta': 0}
    together = view(CoMixup(energy=free, sweeps=20), images, gradient).inputs
    torch.testing.assert_close(together, best.view(3, 16, 16).expand(5, -1, -1, -1))
    apart = view(CoMixup(energy={**free, 'gamma': 1}, sweeps=20), images, gradient).inputs
    assert all(not torch.equal(apart[i], apart[j]) for i in range(5) for j in range(i))


def test_what_is_salient_of_several_images_is_shown_in_one_mixture():
    """Four images with an object in a quarter each: all mixtures can show four objects, and no image is used up."""
    quarters = [[(r + i, c + j) for i in (0, 1) for j in (0, 1)] for r in (0, 2) for c in (0, 2)]
    shared = {'tau': 1.0, 'eta': 0}
    found = view(CoMixup(energy=shared, sweeps=4), origins(4, 32, 32), spots(quarters)[:, :1].expand(-1, 4, -1, -1))
    expected = torch.full((4, 4), 0.25)
    torch.testing.assert_close(found.inputs.mean((2, 3)), expected)
    for image, (row, column) in enumerate(((0, 0), (0, 16), (16, 0), (16, 16))):
        assert (found.inputs[:, image, row : row + 16, column : column + 16] == 1).all()


def test_borders_cost_and_images_are_not_used_up():
    images, gradient = origins(20, 32, 32), random(20, 1, 32, 32, seed=3).pow(5).expand(-1, 20, -1, -1)
    borders, most = {}, {}
    for name, energy in {'': {}, 'no gamma': {'gamma': 0}, 'beta': {'beta': 3.0}}.items():
        inputs = view(CoMixup(energy=energy, sweeps=4), images, gradient).inputs
        cells = inputs[:, :, ::8, ::8]
        borders[name] = float(cells.diff(dim=2).abs().sum() + cells.diff(dim=3).abs().sum())
        used = inputs.mean((2, 3))
        elsewhere = (used.sum(0) - used)[used > 0]
        most[name] = float(elsewhere.max())
    assert borders['beta'] < borders[''] / 2
    assert most[''] <= 0.83  # no mixture shows what others show on more than tau of the cells
    assert most['no gamma'] > 2


def test_a_mixture_has_at_most_one_image_more_for_each_sweep():
    images, gradient = origins(12, 32, 32), random(12, 1, 32, 32, seed=3).pow(7).expand(-1, 12, -1, -1)
    several = {}
    for sweeps in (1, 2, 3, 8):
        found = view(CoMixup(sweeps=sweeps, energy={'beta': 0.1}), images, gradient)
        several[sweeps] = int((found.mixture.weight > 0).sum(1).max())
    assert several[1] <= 2 < several[2] == 3 <= several[3] <= 4 <= several[8] <= 9
    assert ((found.masks > 0) & (found.masks < 1)).any()  # halves


def test_no_gradient_and_single_pixels_of_it_do_no_harm():
    gradient = torch.zeros(5, 3, 8, 8)
    for one in (0.0, 1e-20, 1e20):
        gradient[1, 0, 0, 0] = one
        found = view(CoMixup(), random(5, 3, 8, 8), gradient)
        assert bool(found.inputs.isfinite().all())
        torch.testing.assert_close(found.mixture.weight.sum(1), torch.ones(5))


def test_the_size_of_a_gradient_says_nothing():
    images, gradient = random(6, 3, 16, 16), random(6, 3, 16, 16, seed=3).pow(3)
    scale = 2.0 ** -torch.arange(0, 60, 10)[:, None, None, None]  # of each image another one
    assert torch.equal(view(CoMixup(), images, gradient * scale).inputs, view(CoMixup(), images, gradient).inputs)


def test_saliency_is_that_of_the_plain_batch_and_plain_images_are_a_second_view():
    batch, ctx = Batch(random(4, 3, 8, 8), torch.arange(4), bank=Batch(random(3, 3, 8, 8), torch.arange(3))), context()
    mixed, plain = CoMixup(clean_lam=0.7)(batch, ctx).views
    ((images, labels),) = ctx.probe.asked
    assert images is batch.images  # the same tensor, so that others who ask get the same answer
    assert labels is batch.labels
    assert (mixed.share, plain.share) == (1, 0.7)
    assert plain.inputs is batch.images
    assert len(CoMixup(clean_lam=0)(batch, context()).views) == 1
    assert CoMixup()(batch, context()).views[1].share == 1


def test_pixels_may_require_a_gradient_and_have_half_precision():
    images = random(6, 3, 16, 16).requires_grad_()
    found = view(CoMixup(sweeps=3), images, random(6, 3, 16, 16, seed=4).pow(5))
    weight = random(6, 3, 16, 16, seed=5)
    (found.inputs * weight).sum().backward()
    expected = torch.zeros_like(images)
    for sample, sources in enumerate(found.mixture.index.tolist()):
        for column, source in enumerate(sources):
            expected[source] += found.masks[sample, column] * weight[sample]
    torch.testing.assert_close(images.grad, expected)
    for dtype in (torch.float16, torch.bfloat16):
        again = view(CoMixup(sweeps=3), images.detach().to(dtype), random(6, 3, 16, 16, seed=4).pow(5))
        assert again.inputs.dtype == dtype
        torch.testing.assert_close(again.inputs.float(), found.inputs.detach(), rtol=0.02, atol=0.02)


def test_autocast_changes_nothing():
    images, gradient = random(20, 3, 16, 16), random(20, 3, 16, 16, seed=3).pow(3)
    plain = view(CoMixup(), images, gradient)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(view(CoMixup(), images, gradient).inputs, plain.inputs)


def test_the_steps_of_a_batch_do_not_grow_with_it():

    found = []
    for size in (8, 16, 24):
        images, labels = torch.zeros(size, 3, 8, 8, device='meta'), torch.zeros(size, dtype=torch.long, device='meta')
        found.append(count_operators(CoMixup(part=4), images, labels))
    assert found[0] == found[1] == found[2]


def test_soft_targets_follow_the_weights():
    batch = Batch(random(5, 3, 8, 8), random(5, 7).softmax(1), target='soft')
    mixture = CoMixup()(batch, context()).views[0].mixture
    dense = functional.one_hot(mixture.index, 5).double().mul(mixture.weight[..., None]).sum(1)
    torch.testing.assert_close(mixture.soft(batch.labels), (dense @ batch.labels.double()).float())


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'alpha': 0}, 'alpha=0'), ({'alpha': True}, 'Dirichlet'), ({'grid': 1}, 'from 2 to 8'), ({'grid': 9}, 'grid=9'),
    ({'grid': 4.0}, 'whole number'), ({'part': 2}, 'from 3 to 64'), ({'part': 65}, 'part=65'),
    ({'sweeps': 0}, 'sweeps=0'), ({'sweeps': True}, 'from 1 to 100'), ({'clean_lam': -1}, 'at least 0'),
    ({'clean_lam': float('inf')}, 'clean_lam=inf'), ({'energy': 3}, 'a dict or None'),
    ({'energy': {'betta': 1}}, "did you mean 'beta'"), ({'energy': {'omega': 1.5}}, 'from 0 to 1'),
    ({'energy': {'tau': -0.1}}, 'tau=-0.1|tau.*-0.1'), ({'energy': {'eta': float('nan')}}, 'eta=nan'),
    ({'energy': {'gamma': '1'}}, "gamma='1'"), ({'energy': {'beta': -1}}, 'at least 0'),
])  # fmt: skip
def test_wrong_arguments_are_one_sentence(arguments, message):
    with pytest.raises(InputError, match=message):
        CoMixup(**arguments)


def test_images_of_one_pixel_are_refused():
    with pytest.raises(InputError, match='1x4 pixels: expected at least 2x2'):
        view(CoMixup(), random(2, 3, 1, 4))


@pytest.mark.parametrize(('arguments', 'checks'), [
    ({'part': 3}, ['masks_equal_the_picture', 'nothing_is_read_from_the_device', 'label_equals_pixels']),
    ({'sweeps': 1, 'clean_lam': 0}, ['weights_are_sound', 'draws_come_from_the_generator']),
    ({'grid': 8, 'energy': {'omega': 0}}, ['pixels_stay_in_place', 'identical_images_stay_identical']),
])  # fmt: skip
def test_other_arguments_do_what_they_say(arguments, checks):
    check_policy(CoMixup(**arguments), only=checks, raise_on_failure=True)
