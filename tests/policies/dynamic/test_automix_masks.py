import math

import pytest
import torch

from openmixup.policies import AutoMix
from tests.policies.dynamic.conftest import BOTH, IMAGES, fix_lam, gradients, learner_of, opaque, plan_of

# --- margin and adjustment


@BOTH
@pytest.mark.parametrize(
    ('lam', 'constant'), [(0.05, True), (0.08, True), (0.081, False), (0.919, False), (0.95, True)]
)
def test_near_the_ends_the_classifier_sees_a_plain_blend(policy, lam, constant):
    learner = opaque(learner_of(policy(classifier={'lam_margin': 0.08})))
    fix_lam(learner.policy, 0.02, lam)
    plan = plan_of(learner)
    view = plan.views[1]
    blend = lam * IMAGES + (1 - lam) * IMAGES[view.mixture.index[:, 1]]
    assert torch.allclose(view.inputs, blend, atol=1e-5) == constant
    assert (float(view.masks[:, 0].std()) < 1e-6) == constant
    assert bool(plan.losses['generator'].requires_grad)  # the block learns from all lams
    assert gradients(learner, plan.losses['generator']) == [False, False, True]


def test_the_margin_looks_at_the_lam_of_the_classifier_only():
    learner = opaque(learner_of(AutoMix()))
    for first, second, constant in ((0.01, 0.5, False), (0.5, 0.01, True)):
        fix_lam(learner.policy, first, second)
        assert (float(plan_of(learner).views[1].masks[:, 0].std()) < 1e-6) == constant


@BOTH
def test_the_margin_holds_for_each_sample(policy):
    lam = [0.01, 0.5, 0.95, 0.3, 0.92, 0.1]
    near = torch.tensor([True, False, True, False, True, False])
    learner = opaque(learner_of(policy(per='sample')))
    fix_lam(learner.policy, [0.5] * 6, lam)
    view = plan_of(learner).views[1]
    masks = view.masks[:, 0].flatten(1)
    assert torch.equal(masks.amax(1) == masks.amin(1), near)
    torch.testing.assert_close(masks[near, 0], torch.tensor(lam)[near])
    again = (view.masks[:, :, None] * IMAGES[view.mixture.index]).sum(1)
    torch.testing.assert_close(again, view.inputs, rtol=0, atol=1e-5)


@BOTH
@pytest.mark.parametrize('lam', [0.1, 0.35, 0.5, 0.9])
@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_adjusted_masks_have_the_mean_lam_of_the_classifier(policy, lam, per):
    learner = opaque(learner_of(policy(per=per, classifier={'mask_adjust': 1.0})))
    fix_lam(learner.policy, 0.7, lam)
    masks = plan_of(learner).views[1].masks[:, 0]
    torch.testing.assert_close(masks.mean((1, 2)), torch.full((6,), lam), rtol=0, atol=1e-5)
    learner.policy._classifier['mask_adjust'] = 0.0
    fix_lam(learner.policy, 0.7, lam)
    plain = plan_of(learner).views[1].masks[:, 0]
    assert float((plain.mean((1, 2)) - lam).abs().max()) > 0.05
    for before, after in zip(plain, masks, strict=True):  # the image that shows too much is scaled down
        too_much = float(before.mean()) > lam
        factor = after / before if too_much else (1 - after) / (1 - before)
        torch.testing.assert_close(factor, factor.mean().expand_as(factor), rtol=1e-3, atol=1e-5)
        assert float(factor.max()) <= 1 + 1e-5
        assert float(after.min()) >= 0
        assert float(after.max()) <= 1


def test_masks_are_adjusted_at_their_rate_and_only_for_the_classifier():
    learner = opaque(learner_of(AutoMix(classifier={'mask_adjust': 0.25}, generator={'every': 1000})))
    fix_lam(learner.policy, 0.7, 0.35)
    hits = 0
    for step in range(1, 101):  # the block is not trained in these steps
        masks = plan_of(learner, step=step).views[1].masks[:, 0]
        hits += bool((masks.mean((1, 2)) - 0.35).abs().max() < 1e-4)
    assert abs(hits - 25) < 5 * math.sqrt(100 * 0.25 * 0.75)
    losses = []
    for chance in (0.0, 1.0):
        learner.policy._classifier['mask_adjust'] = chance
        fix_lam(learner.policy, 0.7, 0.35)
        losses.append(float(plan_of(learner).losses['mask'].detach()))
    assert losses[0] == losses[1] > 0


def test_a_mask_of_all_zeros_or_ones_can_be_adjusted():
    learner = learner_of(AutoMix(classifier={'mask_adjust': 1.0, 'lam_margin': 0.0}))
    for bias in (1e4, -1e4):
        learner.policy.mix_block.value[0].bias.data.fill_(bias)
        for lam in (0.3, 0.999):
            fix_lam(learner.policy, 0.5, lam)
            masks = plan_of(learner).views[1].masks[:, 0]
            assert bool(masks.isfinite().all())
            if bias < 0:  # all own: it can only be scaled down
                torch.testing.assert_close(masks, torch.full((6, 16, 16), lam))


@pytest.mark.parametrize('margin', [0.0, 0.08])
@pytest.mark.parametrize('bias', [1e4, -1e4])
def test_extreme_lams_and_masks_together_can_be_adjusted(bias, margin):
    learner = learner_of(AutoMix(per='sample', classifier={'mask_adjust': 1.0, 'lam_margin': margin}))
    learner.policy.mix_block.value[0].bias.data.fill_(bias)
    lam = [0.0, 1.0, 0.5, 0.0, 1.0, 0.3]
    fix_lam(learner.policy, [0.5] * 6, lam)
    view = plan_of(learner).views[1]
    assert bool(view.masks.isfinite().all())
    for end in (0, 1, 3, 4):
        expected = IMAGES[view.mixture.index[end, 0 if lam[end] == 1 else 1]]
        torch.testing.assert_close(view.inputs[end], expected)
