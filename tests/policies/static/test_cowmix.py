import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.static.cowmix import CowMix

PARTNER = torch.tensor([1, 3, 0, 2])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def masks(policy, lam, size, seed=0):
    """(b, H, W) for given p."""
    lam = torch.tensor(lam, dtype=torch.float64)
    return policy.mask(Batch(torch.zeros(4, 1, *size), None), PARTNER, lam, Context(generator=rng(seed)))


def by_hand(p, sigma, noise, size):
    """(H, W) mask, each pixel a sum over the points of noise, in double precision."""
    height, width = size
    field = torch.zeros(size, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            down = torch.tensor([math.exp(-((y / sigma - (i / 2 - 3)) ** 2) / 2) for i in range(noise.shape[0])])
            across = torch.tensor([math.exp(-((x / sigma - (i / 2 - 3)) ** 2) / 2) for i in range(noise.shape[1])])
            field[y, x] = down.double() @ noise.double() @ across.double()
    quantile = math.sqrt(2) * float(torch.erfinv(torch.tensor(2 * p - 1, dtype=torch.float64)))
    return (field <= field.mean() + field.std() * quantile).float()


@pytest.mark.parametrize('lam', [[0.4], [0.2, 0.35, 0.6, 0.8]], ids=['batch', 'sample'])
@pytest.mark.parametrize('size', [(12, 12), (7, 16), (2, 3)])
def test_masks_by_hand(lam, size):
    """sigma is drawn first, evenly on a logarithmic scale, then the noise."""
    found, generator = masks(CowMix(), lam, size), rng()
    scale = math.sqrt(size[0] * size[1])
    sigma = scale * torch.exp(
        math.log(0.125) + math.log(4) * torch.rand(len(lam), generator=generator, dtype=torch.float64)
    )
    points = [math.ceil((length / (scale * 0.125) + 6) * 2) + 1 for length in size]
    noise = torch.randn(len(lam), *points, generator=generator)
    for at, p in enumerate(lam):
        assert torch.equal(found[at], by_hand(p, float(sigma[at]), noise[at], size))


def test_noise_is_as_if_it_were_drawn_everywhere():
    """The blur of white noise has the correlation exp(-d^2 / (4 sigma^2)) and the same spread at all pixels."""
    count, sigma, pixels = 20_000, 4.0, 32
    policy = CowMix(sigma=(sigma / pixels, sigma / pixels), share=(0.5, 0.5))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        original = torch.std_mean
        patch.setattr(torch, 'std_mean', lambda noise, *a, **k: seen.append(noise.clone()) or original(noise, *a, **k))
        lam = torch.full((count,), 0.5, dtype=torch.float64)
        images = torch.zeros(count, 1, pixels, pixels)
        policy.mask(Batch(images, None), torch.arange(count), lam, Context(generator=rng()))
    line = seen[0][:, 5]  # one row of each
    moments = (line.T @ line) / count
    deviation = moments.diagonal().sqrt()
    assert (deviation / deviation.mean()).tolist() == pytest.approx([1] * pixels, abs=5 / math.sqrt(2 * count))
    correlation = moments / deviation[:, None] / deviation
    distance = torch.arange(pixels) - torch.arange(pixels)[:, None]
    expected = torch.exp(-distance.square() / (4 * sigma**2))
    assert float((correlation - expected).abs().max()) < 5 / math.sqrt(count)


def test_p_is_uniform_and_shares_are_about_p():
    p = CowMix().draw_lam(10_000, rng())
    assert 0.2 <= float(p.min()) < 0.201
    assert 0.799 < float(p.max()) <= 0.8
    assert float(p.mean()) == pytest.approx(0.5, abs=5 * 0.6 / math.sqrt(12 * 10_000))
    for wanted in (0.0, 0.2, 0.5, 0.8, 1.0):
        found = masks(CowMix(), [wanted] * 400, (32, 32)).mean((1, 2))
        assert float(found.mean()) == pytest.approx(wanted, abs=0.03)
        if wanted in (0.0, 1.0):
            assert float(found.std()) == 0


def test_the_greater_sigma_the_fewer_edges():
    edges = []
    for sigma in (0.02, 0.1, 0.5):
        found = masks(CowMix(sigma=(sigma, sigma)), [0.5] * 60, (24, 24))
        edges.append(float(found.diff(dim=1).abs().mean() + found.diff(dim=2).abs().mean()))
    assert edges[0] > 2 * edges[1] > 4 * edges[2] > 0


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_labels_are_shares_of_the_pixels(per):
    images = torch.tensor([1.0, 0.0])[:, None, None, None].expand(2, 3, 9, 14).contiguous()
    for seed in range(10):
        view = CowMix(per, 'flip').mix(images, torch.arange(2), rng(seed))
        own = torch.stack([view.inputs[0].mean(), 1 - view.inputs[1].mean()])
        torch.testing.assert_close(view.mixture.weight[:, 0], own)


def test_autocast_does_not_change_a_mask():
    plain = masks(CowMix(), [0.3] * 4, (32, 32))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(masks(CowMix(), [0.3] * 4, (32, 32)), plain)


@pytest.mark.parametrize('arguments', [
    {'sigma': (0, 1)}, {'sigma': (0.5, 0.2)}, {'sigma': 0.2}, {'sigma': (0.1, float('inf'))}, {'share': (0.5, 1.5)},
    {'share': (0.6, 0.5)}, {'share': (False, True)}, {'share': ('a', 'b')},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(InputError, match=rf'CowMix\({name}=.*: expected'):
        CowMix(**arguments)
