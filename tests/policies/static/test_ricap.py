"""RICAP: four crops around a point, with weights by their areas."""

import numpy as np
import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.static.ricap import RICAP
from openmixup.testing import CHECKS, check_policy, count_operators

IMAGES = torch.randn(5, 3, 10, 14, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 3])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def by_hand(images, index, layout):
    """Pixel by pixel."""
    images, mixed = images.numpy(), np.full(images.shape, np.nan)
    weight = np.zeros((len(images), 4))
    for sample in range(len(images)):
        row = min(sample, len(layout.low) - 1)
        for k in range(4):
            (top, left), (bottom, right), (down, across) = (part[row, k].tolist() for part in layout[:3])
            for i in range(top, bottom):
                for j in range(left, right):
                    assert np.isnan(mixed[sample, 0, i, j])  # patches do not overlap
                    mixed[sample, :, i, j] = images[index[sample, k], :, down + i - top, across + j - left]
                    weight[sample, k] += 1 / (images.shape[2] * images.shape[3])
    return mixed, weight


@pytest.mark.parametrize('policy', [RICAP(1.0), RICAP(5.0, 'sample'), RICAP(0.01), RICAP(9999)], ids=repr)
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('seed', range(8))
def test_crops_and_weights_pixel_by_pixel(per, seed, monkeypatch):
    policy, layouts = RICAP(1.0, per), []
    layout = RICAP.layout
    monkeypatch.setattr(RICAP, 'layout', lambda *args: layouts.append(layout(*args)) or layouts[0])
    view = policy.mix(IMAGES, LABELS, rng(seed))
    mixed, weight = by_hand(IMAGES, view.mixture.index, layouts[0])
    np.testing.assert_array_equal(view.inputs.numpy(), mixed)  # also: no pixel is left out
    np.testing.assert_allclose(view.mixture.weight.numpy(), weight, atol=1e-6)
    torch.testing.assert_close(view.masks.mean((2, 3)), view.mixture.weight)
    assert len(layouts[0].low) == (5 if per == 'sample' else 1)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_crops_lie_in_the_image_and_start_anywhere(per):
    layout = RICAP(1.0, per).layout(4000, (6, 9), rng())
    extent = layout.high - layout.low
    assert int(layout.start.min()) == 0
    assert bool((layout.start + extent <= torch.tensor([6, 9])).all())
    for axis, length in enumerate((6, 9)):
        for side in (2, 3):
            start = layout.start[..., axis][extent[..., axis] == side]
            hits = torch.bincount(start, minlength=length - side + 1)
            assert len(hits) == length - side + 1
            rate = 1 / len(hits)
            assert float((hits - rate * len(start)).abs().max()) < 5 * (rate * (1 - rate) * len(start)) ** 0.5
    torch.testing.assert_close(extent.prod(2).sum(1), torch.full((4000,), 54))


@pytest.mark.parametrize(('beta', 'variance'), [(0.3, 1 / 6.4), (1.0, 1 / 12), (5.0, 1 / 44)])
def test_both_sides_are_divided_by_a_beta_law(beta, variance):
    """Variance 1 / (4 (2 beta + 1)), independently for rows and columns; the patch of an image holds a quarter."""
    count = 20_000
    low, high, _, first, point = RICAP(beta).layout(count, (1000, 1000), rng())
    point = point.double() / 1000
    assert point.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=5 * (variance / count) ** 0.5)
    assert point.var(0).tolist() == pytest.approx([variance, variance], rel=0.06)
    assert float(point.T.corrcoef()[0, 1].abs()) < 5 / count**0.5
    area = (high - low).prod(2).double().mean(0) / 1e6
    assert area.tolist() == pytest.approx([0.25] * 4, abs=5 * 0.3 / count**0.5)
    assert torch.bincount(first).tolist() == pytest.approx([count / 4] * 4, abs=5 * (count * 3 / 16) ** 0.5)


def test_partners_are_three_independent_permutations():
    met, twice = torch.zeros(3, 4, 4), 0
    images = torch.zeros(4, 1, 4, 4)
    generator = rng()
    for _ in range(1500):
        index = RICAP().mix(images, None, generator).mixture.index
        assert torch.equal(index.sort(0).values, torch.arange(4)[:, None].expand(4, 4))
        assert torch.equal(index[:, 0], torch.arange(4))
        met[torch.arange(3)[None], torch.arange(4)[:, None], index[:, 1:]] += 1
        twice += int(index[0, 1] == index[0, 2])
    assert float((met - 375).abs().max()) < 5 * (1500 * 3 / 16) ** 0.5
    assert twice == pytest.approx(375, abs=5 * (1500 * 3 / 16) ** 0.5)


def test_a_source_that_comes_twice_counts_twice():
    images, labels = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])  # of two images four patches
    for seed in range(6):
        mixture = RICAP(5.0).mix(images, labels, rng(seed)).mixture
        target = mixture.soft(labels, 2)
        expected = torch.zeros(2, 2)
        for sample in range(2):
            for k in range(4):
                expected[sample, mixture.index[sample, k]] += mixture.weight[sample, k]
        torch.testing.assert_close(target, expected)
        torch.testing.assert_close(target.sum(1), torch.ones(2))


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_images_with_gradients(per):
    images = IMAGES.clone().requires_grad_()
    view = RICAP(1.0, per).mix(images, LABELS, rng(3))
    assert torch.equal(view.inputs, RICAP(1.0, per).mix(IMAGES, LABELS, rng(3)).inputs)
    view.inputs.sum().backward()
    assert float(images.grad.sum()) == IMAGES.numel()


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_small_images_and_a_bank_it_does_not_use(per):
    bank = Batch(torch.full((3, 3, 2, 3), 9.0), torch.arange(3))
    batch = Batch(torch.randn(3, 3, 2, 3), torch.arange(3), bank)
    for seed in range(20):
        view = RICAP(per=per)(batch, Context(seed=seed)).views[0]
        assert float(view.inputs.max()) < 9
        assert int(view.mixture.index.max()) < 3


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_few_operators(per):
    images, labels = IMAGES.to('meta'), LABELS.to('meta')
    assert max(count_operators(RICAP(per=per), images, labels, seed) for seed in range(4)) <= 6
    CHECKS['few_operators_are_launched'](RICAP(per=per))


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'beta': 0}, 'beta=0'), ({'beta': True}, 'beta=True'), ({'beta': float('nan')}, 'beta=nan'),
    ({'per': 'image'}, "per='image'"),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        RICAP(**arguments)
