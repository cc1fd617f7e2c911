import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies.dynamic.mask_loss import MaskLoss

# two samples of 1x4 pixels: means 0.5 and 0.8, variances 0.0625 and 0.01 (0.2 and 0.1 from the mean at each pixel)
MASKS = torch.tensor([[0.25, 0.75, 0.25, 0.75], [0.7, 0.9, 0.7, 0.9]])[:, None, None]
LAM = torch.tensor([0.1, 0.6])
MEAN, WANTED = 0.65, 0.35
VARIANCE = (2 * 0.4**2 + 2 * 0.1**2 + 2 * 0.05**2 + 2 * 0.25**2) / 8
SPARSE = (4 * 0.25 * 0.75 + 2 * 0.7 * 0.3 + 2 * 0.9 * 0.1) / 8


@pytest.mark.parametrize(
    ('kind', 'margin', 'per', 'expected'),
    [
        ('l1', 0.0, 'batch', MEAN - WANTED),
        ('l1', 0.1, 'batch', MEAN - WANTED - 0.1),
        ('l1', 0.4, 'batch', 0.0),
        ('l1', 0.0, 'sample', (0.4 + 0.2) / 2),
        ('l1', 0.3, 'sample', (0.1 + 0.0) / 2),
        ('l1_variance', 0.1, 'batch', MEAN - WANTED - 0.1 - 2 * VARIANCE),
        ('l1_variance', 0.4, 'batch', -2 * VARIANCE),
        ('l1_variance', 0.3, 'sample', (0.1 - 2 * 0.0625 + 0.0 - 2 * 0.01) / 2),
        ('l2_variance', 0.1, 'batch', (MEAN - WANTED) ** 2 - 0.1**2 - 2 * VARIANCE),
        ('l2_variance', 0.3, 'sample', (0.4**2 - 0.3**2 - 2 * 0.0625 + 0.0 - 2 * 0.01) / 2),
        ('sparsity', 0.1, 'batch', SPARSE - 0.1),
        ('sparsity', 0.2, 'batch', 0.0),
        ('sparsity', 0.16, 'sample', (0.1875 - 0.16 + 0.0) / 2),
    ],
)
def test_values_by_hand(kind, margin, per, expected):
    loss = MaskLoss(kind, margin=margin, per=per)(MASKS, LAM)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('mean', [0.2, 0.9])
def test_a_mask_of_the_right_mean_costs_nothing_and_others_are_pulled_there(per, mean):
    loss = MaskLoss('l1', margin=0.0, per=per)
    wanted = torch.full((3,), mean)
    assert float(loss(torch.full((3, 1, 2, 2), mean), wanted)) == pytest.approx(0, abs=1e-6)
    masks = torch.full((3, 1, 2, 2), 0.5, requires_grad=True)
    loss(masks, wanted).backward()
    assert bool(((masks - 0.01 * masks.grad > masks) == (mean > 0.5)).all())


def test_variance_is_rewarded():
    flat, sharp = torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[0.0, 1.0]]]])
    for kind in ('l1_variance', 'l2_variance'):
        loss = MaskLoss(kind)
        assert float(loss(flat, torch.tensor([0.5]))) == 0
        assert float(loss(sharp, torch.tensor([0.5]))) == pytest.approx(-0.5)


def test_single_samples_may_deviate_only_per_batch():
    masks = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 4, 4)
    lam = torch.full((2,), 0.5)
    assert float(MaskLoss()(masks, lam)) == 0
    assert float(MaskLoss(per='sample')(masks, lam)) == pytest.approx(0.4)


def test_constant_and_cosine_weights_at_the_start_the_half_and_the_end():
    assert [MaskLoss(weight=0.2).weight_at(p, 7) for p in (0, 0.5, 1)] == [0.2] * 3
    cosine = MaskLoss(weight=0.2, schedule='cosine')
    for progress, weight in ((0, 0.2), (0.25, 0.1 + 0.1 * math.sqrt(0.5)), (0.5, 0.1), (1, 0.0)):
        assert cosine.weight_at(progress, 7) == pytest.approx(weight, abs=1e-12)
        assert cosine.weight_at(progress, 7) == cosine.weight_at(progress, 7_000_000)


@pytest.mark.parametrize('steps', [100, 1000, 50_000])
def test_the_early_weight_is_that_of_a_scheduler_that_compounds(steps):
    loss, weight = MaskLoss(weight=0.1, schedule='early'), 0.1
    for step in range(steps):
        weight *= (1 + math.cos(math.pi * step / steps)) / 2  # the last weight taken for the base of the next
        assert loss.weight_at(step / steps, step) == pytest.approx(weight, abs=0.001 * 0.1)
    assert weight < 1e-9


@pytest.mark.parametrize(('step', 'weight', 'digits'), [(0, 0.1, 1e-12), (6000, 0.049, 5e-4), (10_000, 0.0037, 5e-5)])
def test_the_early_weight_on_imagenet(step, weight, digits):
    """100 epochs of 5004 steps: it is next to nothing after two of them."""
    loss = MaskLoss(weight=0.1, schedule='early')
    assert loss.weight_at(step / 500_400, step) == pytest.approx(weight, abs=digits)
    assert 1e-6 < loss.weight_at(15_000 / 500_400, 15_000) < 2e-6
    assert MaskLoss(weight=0.1, schedule='cosine').weight_at(15_000 / 500_400, 15_000) == pytest.approx(
        0.0998, abs=5e-5
    )


def test_masks_that_are_not_finite_are_not_hidden():
    masks = MASKS.clone()
    masks[0, 0, 0, 0] = math.nan
    for kind in ('l1', 'l1_variance', 'l2_variance', 'sparsity'):
        for per in ('batch', 'sample'):
            assert bool(MaskLoss(kind, per=per)(masks, LAM).isnan())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'kind': 'l1_varianc'}, "did you mean 'l1_variance'"),
        ({'per': 'image'}, 'batch, sample'),
        ({'schedule': 'linear'}, 'constant, cosine, early'),
        ({'weight': -1}, 'weight=-1'),
        ({'weight': math.inf}, 'weight=inf'),
        ({'margin': 1.0}, 'margin=1.0'),
        ({'margin': True}, 'margin=True'),
    ],
)
def test_wrong_arguments_are_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        MaskLoss(**options)
