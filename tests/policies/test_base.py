"""The template bases: donors, banks, and the stream of the library door."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, CutMix, KMixup, MaskPolicy, Mixup, RandomChoice

IMAGES = torch.randn(5, 2, 6, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(5)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_a_donor_is_a_whole_image_whatever_the_box(per):
    """A policy may paste what it makes of the partner: a place of the donor is the same place of the result."""

    class Mirrored(CutMix):
        def donor(self, batch, partner, region, ctx):
            return batch.source_images.index_select(0, partner).flip(-1)

    view = Mirrored(per=per).mix(IMAGES, LABELS, torch.Generator().manual_seed(1))
    mirrored = IMAGES.flip(-1)[view.mixture.index[:, 1]]
    expected = view.masks[:, :1] * IMAGES + view.masks[:, 1:] * mirrored
    torch.testing.assert_close(view.inputs, expected)


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('kind', [Mixup, CutMix])
def test_partners_from_a_bank(kind, per):
    """Sources from N on are those of the bank: a second loader (CMO) or the previous batch (RecursiveMix)."""
    bank = Batch(torch.full((5, 2, 6, 8), 7.0), torch.full((5,), 9))
    batch = Batch(torch.zeros(5, 2, 6, 8), torch.zeros(5, dtype=torch.int64), bank=bank)
    policy = kind(per=per)
    lam = torch.full((5 if per == 'sample' else 1,), 0.4, dtype=torch.float64)
    view = policy.view(batch, torch.arange(5) + 5, lam, Context())
    torch.testing.assert_close(view.inputs.mean((1, 2, 3)), 7 * view.mixture.weight[:, 1])
    target = view.mixture.soft(batch.source_labels, 10)
    torch.testing.assert_close(target[:, 9], view.mixture.weight[:, 1])


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_gradients_reach_masks_donors_and_images(per):
    class Learned(MaskPolicy):
        def __init__(self, per='batch'):
            super().__init__(per=per)
            self.level = torch.nn.Parameter(torch.tensor(0.3))
            self.tint = torch.nn.Parameter(torch.tensor(0.1))

        def mask(self, batch, partner, lam, ctx):
            return self.level.expand(len(lam), 6, 8)

        def donor(self, batch, partner, region, ctx):
            return super().donor(batch, partner, region, ctx) + self.tint

    policy = Learned(per)
    images = IMAGES.clone().requires_grad_()
    policy.mix(images, LABELS).inputs.square().sum().backward()
    assert all(p.grad is not None and p.grad != 0 for p in policy.parameters())
    assert images.grad is not None


@pytest.mark.parametrize('rows', [1, 5])
def test_a_measured_weight_has_no_gradient_however_the_mask_has_one(rows):
    """On all devices alike: a label is no way around the loss of the mask."""

    class Learned(MaskPolicy):
        def mask(self, batch, partner, lam, ctx):
            return torch.full((rows, 6, 8), 0.25, requires_grad=True)

    view = Learned().mix(IMAGES, LABELS)
    assert view.inputs.requires_grad
    assert not view.mixture.weight.requires_grad
    torch.testing.assert_close(view.mixture.weight, torch.tensor([[0.25, 0.75]]).expand(5, 2))


@pytest.mark.parametrize('policy', [Mixup(), CutMix(), CutMix(per='sample'), KMixup(), RandomChoice()], ids=repr)
def test_an_empty_batch_stays_empty(policy):
    view = policy.mix(IMAGES[:0], LABELS[:0])
    assert view.inputs.shape == (0, 2, 6, 8)
    assert view.mixture.soft(LABELS[:0], 5).shape == (0, 5)


@pytest.mark.parametrize('rng', [5, np.random.default_rng(0), torch.Generator])
def test_what_is_no_generator_is_refused(rng):
    with pytest.raises(InputError, match=r'expected a torch.Generator of the CPU, as torch.Generator\(\)'):
        CutMix().mix(IMAGES, LABELS, rng=rng)


def test_no_two_policies_or_calls_draw_the_same():
    drawn = [Mixup().mix(IMAGES, LABELS).mixture.weight[0, 0].item() for _ in range(20)]
    assert len(set(drawn)) == 20
    policy = Mixup()
    copies = [policy, copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))]
    drawn = [one.mix(IMAGES, LABELS).mixture.weight[0, 0].item() for one in copies * 5]
    assert len(set(drawn)) == 15


def test_a_seed_that_comes_back_does_not_repeat_its_draws():
    with torch.random.fork_rng(devices=[]):
        drawn = []
        for seed in (1, 2, 1):
            torch.manual_seed(seed)
            drawn.append(Mixup().mix(IMAGES, LABELS).mixture.weight[0, 0].item())
    assert len(set(drawn)) == 3
