"""SaliencyGrafting: salient cells of the partner are pasted by chance, and weights follow the salience that shows."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context
from openmixup.policies.guided.saliencygrafting import SaliencyGrafting
from openmixup.policies.saliency import spectral_residual
from openmixup.testing import count_operators

RESNET = {'type': 'TimmBackbone', 'model': 'resnet10t', 'stem': 'cifar'}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed))


class Gradients:
    """A probe with input gradients that a test has made."""

    def __init__(self, gradient):
        self.gradient, self.asked = gradient, []

    def input_grad(self, images, labels):
        self.asked.append((images, labels))
        return self.gradient


def fixed(policy, *lam):
    """Draw these lam, one for all or one each."""
    policy.draw_lam = lambda count, rng: torch.tensor(lam, dtype=torch.float64).expand(count).clone()
    return policy.train()


def view_of(policy, images, gradient=None, seed=0):
    probe = Gradients(random(*images.shape, seed=9) if gradient is None else gradient)
    return policy.train()(Batch(images, torch.arange(len(images))), Context(generator=rng(seed), probe=probe)).views[0]


def shares_by_loops(gradient, rows, columns, temperature=1.0):
    """(N, rows, columns) softmax of the saliency of cells, in NumPy; sides are multiples of the grid."""
    gradient = gradient.double().numpy()
    high, wide = gradient.shape[2] // rows, gradient.shape[3] // columns
    result = np.zeros((len(gradient), rows, columns))
    for n, picture in enumerate(gradient):
        for i in range(rows):
            for j in range(columns):
                cell = picture[:, i * high : (i + 1) * high, j * wide : (j + 1) * wide]
                result[n, i, j] = np.sqrt((cell**2).mean(0)).mean()
        relative = result[n] / result[n].mean() / temperature
        result[n] = np.exp(relative - relative.max())
        result[n] /= result[n].sum()
    return result


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('temperature', [1.0, 0.2])
@pytest.mark.parametrize(('size', 'grid', 'cells'), [
    ((32, 32), 8, (8, 8)), ((12, 30), 6, (6, 6)), ((4, 24), 8, (4, 8)), ((2, 2), 8, (2, 2)),
])  # fmt: skip
def test_picture_and_weights_by_loops(size, grid, cells, temperature, per):
    images, gradient = random(5, 3, *size), random(5, 3, *size, seed=1)
    gradient *= torch.tensor([1e-9, 1e-3, 1, 10, 1e4])[:, None, None, None]  # the scale must not matter
    policy = SaliencyGrafting(per=per, grid=grid, temperature=temperature)
    shares = shares_by_loops(gradient, *cells, temperature)
    high, wide = size[0] // cells[0], size[1] // cells[1]
    some = 0
    for seed in range(4):
        view = view_of(policy, images, gradient, seed)
        for n, other in view.mixture.index.tolist():
            kept, pasted, expected = 0.0, 0.0, images[n].clone()
            for i in range(cells[0]):
                for j in range(cells[1]):
                    place = slice(i * high, (i + 1) * high), slice(j * wide, (j + 1) * wide)
                    shown = view.masks[n, 0][place].unique().tolist()
                    assert shown in ([0.0], [1.0])  # cells are whole
                    if shown == [1.0]:
                        kept += shares[n, i, j]
                        continue
                    assert shares[other, i, j] >= shares[other].mean() * (1 - 1e-4)
                    expected[:, place[0], place[1]] = images[other][:, place[0], place[1]]
                    pasted += shares[other, i, j]
                    some += 1
            torch.testing.assert_close(view.inputs[n], expected)
            weights = torch.tensor([kept / (kept + pasted), pasted / (kept + pasted)], dtype=torch.float32)
            torch.testing.assert_close(view.mixture.weight[n], weights, rtol=0, atol=1e-5)
    assert some


@pytest.mark.parametrize('size', [(32, 32), (16, 40)])
def test_at_lam_0_all_cells_from_the_mean_on_are_pasted_and_at_lam_1_none(size):
    images, gradient = random(4, 3, *size), random(4, 3, *size, seed=3)
    shares = torch.from_numpy(shares_by_loops(gradient, 8, 8))
    view = view_of(fixed(SaliencyGrafting(), 0.0), images, gradient)
    salient = shares >= shares.mean((1, 2), keepdim=True)
    cells = view.masks[:, 1, :: size[0] // 8, :: size[1] // 8]
    assert torch.equal(cells == 1, salient[view.mixture.index[:, 1]])
    view = view_of(fixed(SaliencyGrafting(), 1.0), images, gradient)
    assert torch.equal(view.inputs, images)
    assert torch.equal(view.mixture.weight, torch.tensor([[1.0, 0.0]]).expand(4, 2))


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_salient_cells_are_pasted_with_probability_1_less_lam(per):
    """Each cell of each sample has a coin of its own, also if all have one lam."""
    lam = (0.2,) if per == 'batch' else (0.2, 0.5, 0.9)
    policy = fixed(SaliencyGrafting(per=per, grid=40, pairing='derangement'), *lam)
    pasted = view_of(policy, torch.zeros(3, 1, 40, 40), torch.ones(3, 1, 40, 40)).masks[:, 1]
    rate = 1 - torch.tensor(lam)
    assert float((pasted.mean((1, 2)) - rate).abs().max()) < 4 * math.sqrt(0.25 / 1600)
    assert len(pasted.flatten(1).unique(dim=0)) == 3


@pytest.mark.parametrize('level', [0.0, 1e-12, 3.0])
@pytest.mark.parametrize('grid', [8, 6])
def test_even_or_empty_saliency_weighs_by_area(level, grid):
    """All cells are at the mean, so each may be pasted; pictures without saliency make no NaN."""
    images = random(4, 3, 24, 48)
    view = view_of(SaliencyGrafting(grid=grid), images, torch.full((4, 3, 24, 48), level))
    torch.testing.assert_close(view.mixture.weight, view.masks.mean((2, 3)))
    everything = view_of(fixed(SaliencyGrafting(grid=grid), 0.0), images, torch.full((4, 3, 24, 48), level))
    assert torch.equal(everything.inputs, images[everything.mixture.index[:, 1]])
    torch.testing.assert_close(everything.mixture.weight, torch.tensor([[0.0, 1.0]]).expand(4, 2))


def test_weights_are_not_areas():
    """A small salient cell of the partner over a dull place counts for more than its pixels."""
    gradient = torch.full((2, 1, 8, 8), 0.01)
    gradient[0, :, 0, 0] = gradient[1, :, 7, 7] = 1
    policy = fixed(SaliencyGrafting(pairing='flip', temperature=0.5), 0.0)
    view = view_of(policy, random(2, 1, 8, 8), gradient)
    assert view.masks[:, 1].sum((1, 2)).tolist() == [1, 1]
    torch.testing.assert_close(view.mixture.weight, torch.full((2, 2), 0.5), rtol=0, atol=1e-3)


def test_saliency_is_the_gradient_of_the_loss_in_eval_mode():
    torch.manual_seed(0)
    policy = SaliencyGrafting(pairing='flip')
    model = MixClassifier(RESNET, {'type': 'LinearHead', 'num_classes': 4}, policy=policy).train()
    images, labels = random(4, 3, 32, 32), torch.tensor([3, 1, 0, 1])
    seen, shares = [], policy.shares
    policy.shares = lambda *args: seen.append(shares(*args)) or seen[-1]
    model.plan(images, labels)
    model.eval()
    leaf = images.clone().requires_grad_()
    scores = model.student.heads['main'](model.student.backbone.features(leaf).mean((2, 3)))
    (gradient,) = torch.autograd.grad(F.cross_entropy(scores, labels, reduction='sum'), leaf)
    expected = torch.from_numpy(shares_by_loops(gradient, 8, 8)).float()
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-5)


def test_spectral_saliency_needs_no_network():
    images, policy = random(3, 3, 32, 48), SaliencyGrafting(saliency='spectral')
    assert SaliencyGrafting().needs == ('input_grad',)
    assert policy.needs == ()
    maps = spectral_residual(images, (0.5, 0.2, 0.3))
    shares = policy.shares(Batch(images, torch.arange(3)), (8, 8), Context(std=(0.5, 0.2, 0.3)))
    expected = torch.from_numpy(shares_by_loops(maps[:, None], 8, 8)).float()
    torch.testing.assert_close(shares, expected, rtol=0, atol=1e-5)


def test_partners_of_a_bank():
    images, bank, gradient = random(2, 3, 16, 16), random(3, 3, 16, 16, seed=1), random(5, 3, 16, 16, seed=2)
    batch, probe = Batch(images, torch.arange(2), Batch(bank, torch.tensor([8, 1, 9]))), Gradients(gradient)
    policy = SaliencyGrafting()
    view = policy.view(batch, torch.tensor([4, 2]), torch.tensor([0.0]).double(), Context(generator=rng(), probe=probe))
    assert probe.asked[0][1].tolist() == [0, 1, 8, 1, 9]
    assert view.mixture.index.tolist() == [[0, 4], [1, 2]]
    shares = shares_by_loops(gradient, 8, 8)
    for n, other in enumerate((4, 2)):
        pasted = shares[other] >= shares[other].mean()
        kept, got = shares[n][~pasted].sum(), shares[other][pasted].sum()
        assert float(view.mixture.weight[n, 0]) == pytest.approx(kept / (kept + got), abs=1e-5)
        assert torch.equal(view.inputs[n][view.masks[n, 1].expand(3, -1, -1) == 1],
                           bank[other - 2][view.masks[n, 1].expand(3, -1, -1) == 1])  # fmt: skip


def test_gradient_flows_to_the_pixels_but_not_through_the_weights():
    images = random(3, 3, 16, 16).requires_grad_()
    view = view_of(SaliencyGrafting(pairing='derangement'), images)
    assert not view.mixture.weight.requires_grad
    view.inputs.sum().backward()
    own, other = view.masks.detach().unbind(1)
    expected = own.clone().index_add_(0, view.mixture.index[:, 1], other)
    assert torch.equal(images.grad, expected[:, None].expand(-1, 3, -1, -1))


@pytest.mark.parametrize('saliency', ['gradient', 'spectral'])
def test_operators_of_large_bfloat16_images(saliency):
    policy = SaliencyGrafting(saliency=saliency).train()
    images = torch.zeros(4, 3, 224, 224, dtype=torch.bfloat16, device='meta')
    labels = torch.zeros(4, dtype=torch.long, device='meta')
    count_operators(policy, images, labels)  # the first of a process makes constants
    assert count_operators(policy, images, labels) == policy.operators


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'alpha': 0}, 'alpha=0'), ({'saliency': 'gradients'}, 'gradient'), ({'grid': 1}, 'at least 2'),
    ({'grid': 8.0}, 'whole number'), ({'grid': True}, 'whole number'), ({'temperature': 0}, 'from 0.001'),
    ({'temperature': '1'}, 'a number'), ({'temperature': True}, 'a number'),
    ({'temperature': float('nan')}, 'a number'), ({'per': 'cell'}, 'one lam each'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SaliencyGrafting(**arguments)
