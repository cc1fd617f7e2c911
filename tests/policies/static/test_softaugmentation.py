"""Soft Augmentation: shifted images, and labels of less than full weight."""

import math

import pytest
import torch
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.models import SoftCrossEntropy
from openmixup.policies import Batch, Context, RandomChoice
from openmixup.policies.static.softaugmentation import SoftAugmentation
from openmixup.testing import check_policy, count_operators

IMAGES = torch.rand(6, 3, 12, 16, generator=torch.Generator().manual_seed(0)) + 1  # no pixel is 0
LABELS = torch.tensor([0, 1, 2, 3, 3, 0])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('policy', [SoftAugmentation(0), SoftAugmentation(3.0, 0.5, 0.0)], ids=repr)
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


@pytest.mark.parametrize('seed', range(3))
def test_pixels_and_weights_by_loops(seed):
    policy = SoftAugmentation(0.5, power=3.0, chance=0.25)
    view = policy.mix(IMAGES, LABELS, rng(seed))
    for sample, (down, across) in enumerate(policy.shifts(6, (12, 16), rng(seed)).tolist()):
        expected, seen = torch.zeros(3, 12, 16), 0
        for row in range(12):
            for column in range(16):
                if 0 <= row + down < 12 and 0 <= column + across < 16:
                    expected[:, row, column] = IMAGES[sample, :, row + down, column + across]
                    seen += 1
        assert torch.equal(view.inputs[sample], expected)
        assert torch.equal(view.masks[sample, 0], (expected[0] != 0).float())
        confidence = 1 - 0.75 * (1 - seen / 192) ** 3
        assert float(view.mixture.weight[sample, 0]) == pytest.approx(confidence, rel=1e-6)


@pytest.mark.parametrize(('shift', 'expected'), [
    ((0, 0), 1.0), ((16, 0), 0.7525), ((0, -16), 0.7525), ((16, 16), 0.443125), ((32, 0), 0.01),
])  # fmt: skip
def test_confidence_of_the_paper(shift, expected):
    """100 classes, k = 2: all, half, a quarter and nothing of an image of 32 pixels is visible."""
    weight = SoftAugmentation().confidence(torch.tensor([shift]), (32, 32))
    assert float(weight) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('sigma', [0.1, 0.375, 2.0])
def test_shifts_are_normal_within_a_side(sigma):
    count, side = 40_000, 1000
    shifts = SoftAugmentation(sigma).shifts(count, (side, side // 2), rng()) / torch.tensor([side, side // 2])
    assert float(shifts.abs().max()) <= 1
    a = 1 / sigma
    inside = math.erf(a / math.sqrt(2))
    deviation = sigma * math.sqrt(1 - 2 * a * math.exp(-a * a / 2) / math.sqrt(2 * math.pi) / inside)
    for column in shifts.T:
        assert float(column.mean()) == pytest.approx(0, abs=5 * deviation / count**0.5)
        assert float(column.std()) == pytest.approx(deviation, rel=0.02)
    assert abs(float(torch.corrcoef(shifts.T)[0, 1])) < 0.03


def test_shifts_are_cut_towards_zero():
    """Of 2 pixels a side, all draws below half a side stay."""
    shifts = SoftAugmentation(0.5).shifts(4000, (2, 2), rng())
    assert set(shifts.flatten().tolist()) == {-1, 0, 1}
    inside = math.erf(1 / math.sqrt(2)) / math.erf(2 / math.sqrt(2))
    assert float((shifts == 0).double().mean()) == pytest.approx(inside, abs=0.03)


def test_the_loss_is_that_of_the_label_times_the_confidence():
    """The remainder of the target is left out; nothing is normalised again."""
    view = SoftAugmentation().mix(IMAGES, LABELS, rng())
    logits = torch.randn(6, 4, generator=rng(1))
    weight = view.mixture.weight[:, 0]
    assert float(weight.min()) < 0.9
    expected = functional.cross_entropy(logits, LABELS, reduction='none') * weight
    torch.testing.assert_close(SoftCrossEntropy()(logits, LABELS, view.mixture), expected)
    torch.testing.assert_close(view.mixture.soft(LABELS, 4).sum(1), weight)


def test_values_keep_their_size():
    values = torch.randn(6, 2)
    view = SoftAugmentation().mix(IMAGES, values, rng(), target='regression')
    assert torch.equal(view.mixture.of(values), values)


def test_without_shifts_nothing_changes():
    view = SoftAugmentation(0).mix(IMAGES, LABELS, rng())
    assert torch.equal(view.inputs, IMAGES)
    assert torch.equal(view.mixture.weight, torch.ones(6, 1))


def test_the_last_epochs_are_without_it():
    policy = RandomChoice([SoftAugmentation()], epochs=[(0, 480)])
    for epoch, changed in ((479, True), (480, False)):
        view = policy(Batch(IMAGES, LABELS), Context(epoch=epoch)).views[0]
        assert torch.equal(view.inputs, IMAGES) is not changed


def test_gradients_go_to_the_pixels_that_are_shown():
    images = IMAGES.clone().requires_grad_()
    view = SoftAugmentation().mix(images, LABELS, rng())
    view.inputs.sum().backward()
    assert torch.equal(images.grad.sum((2, 3)), view.masks.sum((2, 3)).expand(-1, 3))


def test_few_operators():
    assert count_operators(SoftAugmentation(), IMAGES.to('meta'), LABELS.to('meta')) <= 12


@pytest.mark.parametrize(('options', 'match'), [
    ({'sigma': -0.1}, 'share of the side'),
    ({'sigma': math.nan}, 'share of the side'),
    ({'power': 0}, 'above 0'),
    ({'power': True}, 'above 0'),
    ({'chance': 1.0}, 'below 1'),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        SoftAugmentation(**options)
