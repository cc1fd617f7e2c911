"""VH-Mixup: a vertical and a horizontal concatenation, blended."""

import numpy as np
import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies.static.vhmixup import VHMixup
from openmixup.testing import count_operators

IMAGES = torch.randn(5, 3, 10, 14, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 3])


def fixed(monkeypatch, policy, *values):
    """Let the policy draw lam and the shares of rows and columns from ``values``, each a number or one a sample."""
    draws = iter(values)
    monkeypatch.setattr(
        policy, 'draw_lam', lambda count, rng: torch.as_tensor(next(draws), dtype=torch.float64).expand(count)
    )
    return policy


@pytest.mark.parametrize(('lam', 'up', 'left'), [(0.3, 0.4, 0.75), (0.9, 0.0, 1.0), (0.0, 0.5, 0.31), (1.0, 1.0, 0.2)])
def test_both_concatenations_by_hand(lam, up, left, monkeypatch):
    view = fixed(monkeypatch, VHMixup(), lam, up, left).mix(IMAGES, LABELS)
    rows, columns = round(up * 10), round(left * 14)
    own, other = IMAGES.numpy(), IMAGES.numpy()[view.mixture.index[:, 1]]
    vertical = np.concatenate([own[:, :, :rows], other[:, :, rows:]], 2)
    horizontal = np.concatenate([own[..., :columns], other[..., columns:]], 3)
    np.testing.assert_allclose(view.inputs.numpy(), lam * vertical + (1 - lam) * horizontal, atol=1e-5)
    weight = lam * rows / 10 + (1 - lam) * columns / 14  # the rule of the paper
    np.testing.assert_allclose(view.mixture.weight.numpy(), [[weight, 1 - weight]] * 5, atol=1e-6)
    np.testing.assert_allclose(view.masks.mean((2, 3)).numpy(), view.mixture.weight.numpy(), atol=1e-6)


def test_quarters_of_one_sample(monkeypatch):
    mask = fixed(monkeypatch, VHMixup(), 0.3, 0.5, 0.5).mix(IMAGES, LABELS).masks[0, 0]
    torch.testing.assert_close(mask[[0, 0, 9, 9], [0, 13, 0, 13]], torch.tensor([1.0, 0.3, 0.7, 0.0]))


def test_each_sample_has_its_own_shares(monkeypatch):
    lam, up, left = ([0.1, 0.3, 0.5, 0.7, 0.9], [0.2, 0.4, 0.6, 0.8, 1.0], [0.5, 0.0, 1.0, 0.5, 0.5])
    weight = fixed(monkeypatch, VHMixup(per='sample'), lam, up, left).mix(IMAGES, LABELS).mixture.weight[:, 0]
    expected = [a * b + (1 - a) * c for a, b, c in zip(lam, up, left, strict=True)]
    assert weight.tolist() == pytest.approx(expected)


@pytest.mark.parametrize('alpha', [0.5, 1.0, 4.0])
def test_law_of_the_weight(alpha):
    """Mean 1/2; variance of lam a + (1 - lam) b, independent with variance v: 2 v (v + 1/4)."""
    images = torch.zeros(4000, 1, 50, 60)
    weight = VHMixup(alpha, 'sample').mix(images, None, torch.Generator().manual_seed(0)).mixture.weight
    v = 1 / (4 * (2 * alpha + 1))
    assert float(weight[:, 0].mean()) == pytest.approx(0.5, abs=5 * (2 * v * (v + 0.25) / 4000) ** 0.5)
    assert float(weight[:, 0].var()) == pytest.approx(2 * v * (v + 0.25), rel=0.12)


def test_few_operators():
    assert count_operators(VHMixup(per='sample'), IMAGES.to('meta'), LABELS.to('meta')) <= 10


@pytest.mark.parametrize('arguments', [{'alpha': 0}, {'per': 'image'}, {'pairing': 'none'}])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError, match=r'VHMixup\('):
        VHMixup(**arguments)
