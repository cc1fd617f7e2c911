import math

import pytest
import torch

from openmixup.policies import Batch, Context
from openmixup.policies.static.gmix import GMix

PARTNER = torch.tensor([1, 3, 0, 2])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def region(lam, size, place, monkeypatch):
    """The mask (b, H, W) of given lam and places in [0, 1) of the centres."""
    monkeypatch.setattr(torch, 'rand', lambda *shape, **_: torch.tensor(place, dtype=torch.float64).expand(shape))
    lam = torch.tensor(lam, dtype=torch.float64)
    found = GMix().mask(Batch(torch.zeros(2, 1, *size), None), PARTNER, lam, Context(generator=rng()))
    monkeypatch.undo()
    return torch.addcmul(*found.parts())[:, 0], found.kept()


@pytest.mark.parametrize('lam', [[0.0], [0.3], [0.5], [0.8], [1.0], [0.0, 0.2, 0.5, 0.97, 1.0]], ids=repr)
@pytest.mark.parametrize('size', [(16, 16), (9, 20), (2, 3)])
def test_masks_by_hand(lam, size, monkeypatch):
    height, width = size
    masks, kept = region(lam, size, [0.6, 0.4], monkeypatch)
    row, column = int(0.6 * height), int(0.4 * width)
    for at, own in enumerate(lam):
        share, expected = max(min(own, 1 - own), 1e-9), torch.empty(size)
        for y in range(height):
            for x in range(width):
                bump = math.exp(-math.pi * ((y - row) ** 2 + (x - column) ** 2) / (share * height * width))
                expected[y, x] = bump if own < 0.5 else 1 - bump
        torch.testing.assert_close(masks[at], expected)
        assert float(kept[at]) == pytest.approx(float(expected.mean()), abs=1e-6)


def test_the_bump_has_its_share_in_the_middle_and_a_quarter_of_it_in_a_corner(monkeypatch):
    """At 32 px, a share of 0.3: 0.287 in the middle, where little is cut off, and 0.084 in a corner."""
    for lam, place, expected in ((0.3, 0.5, 0.287), (0.3, 0.0, 0.084), (0.7, 0.5, 1 - 0.287), (0.7, 0.0, 1 - 0.084)):
        _, kept = region([lam], (32, 32), [place, place], monkeypatch)
        assert float(kept) == pytest.approx(expected, abs=2e-3)


def test_small_shares_are_exact_on_images_that_are_not_square(monkeypatch):
    """With H * W in the place of a squared side the integral is the share."""
    _, kept = region([0.02, 0.05], (40, 80), [0.5, 0.5], monkeypatch)
    assert kept.tolist() == pytest.approx([0.02, 0.05], rel=1e-4)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_labels_are_the_mean_of_the_mask_and_not_lam(per):
    images = torch.tensor([1.0, 0.0])[:, None, None, None].expand(2, 1, 32, 32).contiguous()
    gaps = []
    for seed in range(20):
        policy, lam = GMix(per=per, pairing='flip'), torch.full((2 if per == 'sample' else 1,), 0.3).double()
        view = policy.view(Batch(images, torch.arange(2)), torch.tensor([1, 0]), lam, Context(generator=rng(seed)))
        own = torch.stack([view.inputs[0].mean(), 1 - view.inputs[1].mean()])
        torch.testing.assert_close(view.mixture.weight[:, 0], own, atol=1e-6, rtol=0)
        gaps.append(0.3 - float(own.mean()))
    assert max(gaps) > 0.05
    assert min(gaps) > 0
