import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.static.smoothmix import SmoothMix

SIZES = [(16, 16), (9, 20), (2, 3)]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def by_hand(spread, row, column, size):
    """(H, W) bump, pixel by pixel."""
    bump = torch.empty(size, dtype=torch.float64)
    for y in range(size[0]):
        for x in range(size[1]):
            bump[y, x] = math.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * spread**2))
    return bump


def centres(count, size, seed):
    """Centres that the policy draws first from its stream."""
    places = torch.rand(count, 2, generator=rng(seed), dtype=torch.float64)
    return (places * torch.tensor(size)).long().tolist()


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_image_and_label_by_hand(size, per):
    """The label is that of the pixels: the own weight is 1 - mean(G), since the own image has the weight 1 - G."""
    images = torch.randn(4, 2, *size, generator=rng(9), dtype=torch.float64)
    partner = torch.tensor([1, 3, 0, 2])
    lam = torch.tensor([0.9] if per == 'batch' else [0.0, 0.25, 0.6, 1.0], dtype=torch.float64)
    for seed in range(4):
        view = SmoothMix(per).view(Batch(images, torch.arange(4)), partner, lam, Context(generator=rng(seed)))
        for sample in range(4):
            at = sample % len(lam)
            spread = (0.5 - 0.25 * float(lam[at])) * math.sqrt(size[0] * size[1])
            bump = by_hand(spread, *centres(len(lam), size, seed)[at], size)
            expected = (1 - bump) * images[sample] + bump * images[partner[sample]]
            torch.testing.assert_close(view.inputs[sample], expected, atol=1e-6, rtol=0)
            weight = view.mixture.weight[sample].tolist()
            assert weight == pytest.approx([1 - float(bump.mean()), float(bump.mean())], abs=1e-6)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_the_label_is_not_that_of_the_partner(per):
    """Own images are 1, partners 0: the mean of the pixels is the own weight, also far from one half."""
    images = torch.tensor([1.0, 0.0, 1.0, 0.0])[:, None, None, None].expand(4, 1, 32, 32).contiguous()
    policy = SmoothMix(per, pairing='flip', sigma=(0.05, 0.1))
    for seed in range(10):
        view = policy.mix(images, torch.arange(4), rng(seed))
        own = torch.stack([view.inputs[0].mean(), 1 - view.inputs[1].mean()])
        torch.testing.assert_close(view.mixture.weight[:2, 0], own)
        assert float(own.min()) > 0.9


def test_spreads_are_uniform_in_their_range():
    draws, images = 4000, torch.zeros(2, 1, 20, 20)
    lam = SmoothMix().draw_lam(draws, rng())
    region = SmoothMix(sigma=(0.1, 0.3)).mask(Batch(images, None), torch.arange(2), lam, Context(generator=rng(1)))
    peak = region.rows.argmin(1)
    beside = torch.where(peak > 0, peak - 1, peak + 1)[:, None]  # one pixel from the centre
    spread = (-0.5 / (-region.rows).double().gather(1, beside).log()).sqrt()[:, 0]
    assert float(spread.min()) >= 2 - 1e-3
    assert float(spread.max()) <= 6 + 1e-3
    assert float(spread.mean()) == pytest.approx(4, abs=5 * 4 / math.sqrt(12 * draws))
    assert float(spread.std()) == pytest.approx(4 / math.sqrt(12), abs=0.05)


def test_the_partner_has_up_to_0_73_of_a_square_image():
    """The greatest bump stands in the middle, the least one in a corner."""
    images = torch.zeros(2, 1, 32, 32)
    lam = SmoothMix().draw_lam(4000, rng())
    region = SmoothMix().mask(Batch(images, None), torch.arange(2), lam, Context(generator=rng(1)))
    taken = 1 - region.kept()
    least = by_hand(8, 0, 0, (32, 32)).mean()
    greatest = by_hand(16, 16, 16, (32, 32)).mean()
    assert float(least) <= float(taken.min()) < float(least) + 0.02
    assert float(greatest) - 0.02 < float(taken.max()) <= float(greatest)
    assert float(greatest) == pytest.approx(0.73, abs=5e-3)


@pytest.mark.parametrize('sigma', [(0, 1), (0.5, 0.25), 0.5, (0.5,), (True, True), ('a', 'b'), (0.1, float('nan'))])
def test_wrong_ranges_are_refused(sigma):
    with pytest.raises(InputError, match=r'SmoothMix\(sigma=.*: expected'):
        SmoothMix(sigma=sigma)
