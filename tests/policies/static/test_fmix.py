import math

import numpy as np
import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.static import fmix
from openmixup.policies.static.fmix import FMix
from openmixup.testing import check_policy

PARTNER = torch.tensor([1, 3, 0, 2])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def masks(policy, lam, size, seed=0):
    """(b, H, W) for given lam."""
    lam = torch.tensor(lam, dtype=torch.float64)
    return policy.mask(Batch(torch.zeros(4, 1, *size), None), PARTNER, lam, Context(generator=rng(seed)))


def picture(drawn, size, decay):
    """(H, W) by the FFT of NumPy, from the same normal draws (H, 2 (W // 2 + 1)); all frequencies."""
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    scale = 1 / np.maximum(frequency, 1 / max(size)) ** decay
    real, imaginary = np.split(drawn.double().numpy(), 2, axis=1)
    return np.fft.irfft2(scale * (real + 1j * imaginary), size)


@pytest.mark.parametrize('size', [(32, 32), (10, 17), (9, 4), (2, 2), (2, 3)])
@pytest.mark.parametrize('lam', [[0.37], [0.0, 0.2, 0.51, 1.0]], ids=['batch', 'sample'])
@pytest.mark.parametrize('decay', [3.0, 1.5])
def test_masks_by_an_fft_of_all_frequencies_and_a_full_sort(size, lam, decay):
    for seed in range(3):
        found = masks(FMix(decay=decay), lam, size, seed)
        generator, pixels = rng(seed), size[0] * size[1]
        drawn = torch.randn(len(lam), size[0], 2 * (size[1] // 2 + 1), generator=generator)
        coins = torch.rand(len(lam), generator=generator, dtype=torch.float64).tolist()
        for own, coin, normal, mask in zip(lam, coins, drawn, found, strict=True):
            count = math.ceil(own * pixels) if coin < 0.5 else math.floor(own * pixels)
            order = picture(normal, size, decay).reshape(-1).argsort()[::-1]
            expected = np.zeros(pixels)
            expected[order[:count]] = 1
            assert np.array_equal(mask.reshape(-1).numpy(), expected)


def test_a_decay_next_to_nothing_leaves_white_noise():
    """Whose power of the faintest wave no number can hold."""
    nearly, white = (masks(FMix(decay=decay), [0.3], (8, 8)) for decay in (1e-9, 0))
    assert torch.equal(nearly, white)


@pytest.mark.parametrize('max_soft', [0, 0.05, 0.5])
@pytest.mark.parametrize('pixels', [1024, 77, 4])
def test_masks_cut_one_by_one_are_those_that_are_sorted_together(max_soft, pixels):
    policy, lam = FMix(max_soft=max_soft), torch.tensor([0.0, 0.01, 0.2, 0.51, 0.97, 1.0], dtype=torch.float64)
    noise = torch.randn(len(lam), pixels, generator=rng())
    for coin in (torch.zeros(len(lam)), torch.ones(len(lam))):
        single = [policy._cut(*cut) for cut in zip(noise, lam.tolist(), coin.tolist(), strict=True)]
        torch.testing.assert_close(policy._cut_all(noise, *policy._ramps(lam, coin, pixels)), torch.stack(single))


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('size', [(32, 32), (7, 11), (50, 70)])
def test_counts_are_exact_and_rounded_by_a_fair_coin(per, size):
    pixels, calls = size[0] * size[1], 100
    lam = (0.3 * pixels // 1 + 0.5) / pixels  # half a pixel between two counts
    counts = torch.cat([
        masks(FMix(per=per), [lam] * (4 if per == 'sample' else 1), size, seed).sum((1, 2)) for seed in range(calls)
    ])  # fmt: skip
    low, high = math.floor(lam * pixels), math.ceil(lam * pixels)
    assert set(counts.tolist()) == {low, high}
    share = float((counts == low).double().mean())
    assert share == pytest.approx(0.5, abs=5 * 0.5 / len(counts) ** 0.5)


@pytest.mark.parametrize('lam', [[0.4], [0.02, 0.4, 0.9, 0.5], [0.0], [1.0]], ids=repr)
@pytest.mark.parametrize('max_soft', [0.1, 0.5, 0.004])
def test_soft_edges_fall_evenly_over_the_ranks(lam, max_soft):
    size, pixels = (12, 20), 240
    hard, soft = (masks(FMix(max_soft=s), lam, size).flatten(1) for s in (0.0, max_soft))
    for at, own in enumerate(lam):
        kept = int(hard[at].sum())
        half = int(pixels * min(max_soft, own, 1 - own))
        expected = [1.0] * (kept - half) + np.linspace(1, 0, 2 * half).tolist() + [0.0] * (pixels - kept - half)
        assert soft[at].sort(descending=True).values.tolist() == pytest.approx(expected, abs=1e-6)
        assert float(soft[at].mean()) == pytest.approx(float(hard[at].mean()), abs=1e-6)
        if half:  # the ramp lies on the edge: what is more than one half shows is what a hard cut keeps
            assert torch.equal((soft[at] > 0.5).float(), hard[at])


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('max_soft', [0.0, 0.3])
def test_labels_are_shares_of_the_pixels(per, max_soft):
    images = torch.tensor([1.0, 0.0])[:, None, None, None].expand(2, 3, 9, 14).contiguous()
    for seed in range(10):
        view = FMix(per=per, max_soft=max_soft).mix(images, torch.arange(2), rng(seed))
        own = torch.stack([view.inputs[0].mean(), 1 - view.inputs[1].mean()])
        torch.testing.assert_close(view.mixture.weight[:, 0], own)


def test_waves_that_are_left_out_are_faint():
    """At 224 px the noise lacks less than 1/100 of its spread, and there is little to draw."""
    waves = fmix._waves((224, 224), 3.0)
    assert waves.amplitude.numel() < 1200
    drawn = torch.randn(224, 2 * 113, generator=rng())
    whole = picture(drawn, (224, 224), 3.0)
    kept = np.abs(np.fft.fftfreq(224)) < 16.5 / 224, np.fft.rfftfreq(224) < 16.5 / 224
    few = drawn[torch.from_numpy(kept[0])][:, torch.from_numpy(np.tile(kept[1], 2))]
    noise = fmix._noise(few[None] * waves.amplitude, waves.columns, waves.rows)[0].double().numpy()
    noise = noise * (whole.std() / noise.std())
    assert np.abs(noise - noise.mean() - whole + whole.mean()).max() < 0.02 * whole.std()
    changed = (noise > np.quantile(noise, 0.5)) != (whole > np.quantile(whole, 0.5))
    assert changed.mean() < 5e-3


def test_the_slower_the_decay_the_rougher_the_mask():
    edges = []
    for decay in (0.0, 1.0, 3.0, 10.0):
        mask = torch.cat([masks(FMix(decay=decay), [0.5], (32, 32), seed) for seed in range(20)])
        edges.append(float((mask.diff(dim=1).abs().mean() + mask.diff(dim=2).abs().mean()) / 2))
    assert edges[0] == pytest.approx(0.5, abs=0.02)  # white noise
    assert edges == sorted(edges, reverse=True)
    assert edges[3] < 0.08


def test_reformulated_labels_are_those_of_the_own_image():
    """With alpha = 1 lam ~ Beta(2, 1), of mean 2/3, and the label does not follow it."""
    policy, draws = FMix(reformulate=True), 4000
    lam = policy.draw_lam(draws, rng())
    assert float(lam.mean()) == pytest.approx(2 / 3, abs=5 * math.sqrt(1 / 18 / draws))
    assert policy.lam_beta == (2, 1)
    assert (policy.label, FMix().label) == ('semantic', 'pixels')
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8).contiguous()
    view = policy.mix(images, torch.arange(4), rng())
    assert view.mixture.weight.tolist() == [[1.0, 0.0]] * 4
    assert not torch.equal(view.inputs, images)
    torch.testing.assert_close((view.masks[:, :, None] * images[view.mixture.index]).sum(1), view.inputs)


def test_nobody_is_mixed_with_itself():
    for seed in range(30):
        index = FMix().mix(torch.zeros(5, 1, 4, 4), torch.arange(5), rng(seed)).mixture.index
        assert not bool((index[:, 0] == index[:, 1]).any())


def test_autocast_does_not_change_a_mask():
    plain = masks(FMix(per='sample'), [0.3] * 4, (32, 32))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(masks(FMix(per='sample'), [0.3] * 4, (32, 32)), plain)


@pytest.mark.parametrize('max_soft', [0.0, 0.2])
def test_few_operators(max_soft):
    only = ['few_operators_are_launched', 'nothing_is_read_from_the_device']
    check_policy(FMix(per='sample', max_soft=max_soft), only=only, raise_on_failure=True)


@pytest.mark.parametrize('arguments', [
    {'decay': -1}, {'decay': float('inf')}, {'decay': True}, {'max_soft': 0.6}, {'max_soft': -0.1}, {'max_soft': 'a'},
    {'reformulate': 1},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(InputError, match=rf'FMix\({name}=.*: expected'):
        FMix(**arguments)
