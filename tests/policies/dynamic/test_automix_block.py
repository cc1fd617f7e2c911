import copy
import math
import pickle
from dataclasses import replace

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import AutoMix, Batch, Context, Mixup, RandomChoice
from openmixup.testing import check_policy
from tests.policies.dynamic.conftest import (
    BOTH,
    IMAGES,
    LABELS,
    NETWORK,
    fix_lam,
    learner_of,
    opaque,
    plan_of,
)

# --- when the block is trained


@pytest.mark.parametrize(('generator', 'trained'), [
    ({}, [True] * 6),
    ({'every': 2}, [True, False, True, False, True, False]),
    ({'every': 3}, [True, False, False, True, False, False]),
    ({'until': 0.5}, [True, True, True, False, False, False]),
    ({'until': 0.0}, [False] * 6),
    ({'every': 2, 'until': 0.4}, [True, False, True, False, False, False]),
])  # fmt: skip
def test_when_the_block_is_trained(generator, trained):
    learner, passes = learner_of(AutoMix(generator=generator)), []
    whole = learner.teacher.network.heads['mix']
    whole.register_forward_hook(lambda *given: passes.append(1))
    found = []
    for step in range(6):
        plan = plan_of(learner, step=step, progress=step / 6)
        found.append('generator' in plan.losses)
        assert ('mask' in plan.losses) == found[-1]
        assert not plan.views[1].inputs.requires_grad
    assert found == trained
    assert len(passes) == sum(trained)
    assert learner.policy.sometimes_unused == (generator != {})


def test_the_generator_step_can_be_skipped_at_random_on_all_ranks_alike():
    learner = learner_of(AutoMix(generator={'skip': 0.3}))
    found = [[learner.policy._trained(Context(step=s, rank=r)) for s in range(1000)] for r in (0, 1)]
    assert found[0] == found[1]
    assert abs(sum(found[0]) - 700) < 5 * math.sqrt(1000 * 0.3 * 0.7)
    assert ['generator' in plan_of(learner, step=step).losses for step in range(6)] == found[0][:6]
    assert 0 < sum(found[0][:6]) < 6
    assert learner.policy.sometimes_unused


@BOTH
def test_what_the_classifier_sees_does_not_depend_on_the_training_of_the_block(policy):
    views = []
    for generator in ({}, {'until': 0.0}):
        learner = opaque(learner_of(policy(generator=generator)))
        views.append(plan_of(learner, seed=3).views[1])
    assert torch.equal(views[0].mixture.index, views[1].mixture.index)
    torch.testing.assert_close(views[0].inputs, views[1].inputs)


def test_a_constant_mask_without_training_looks_at_no_network():
    learner = learner_of(AutoMix(generator={'until': 0.0}))
    fix_lam(learner.policy, 0.5, 0.05)
    learner.teacher.network.backbone.register_forward_hook(lambda *given: pytest.fail('the teacher ran'))
    learner.teacher.network.backbone.stem.register_forward_hook(lambda *given: pytest.fail('the teacher ran'))
    plan_of(learner)
    fix_lam(learner.policy, 0.5, 0.5)
    with pytest.raises(pytest.fail.Exception):
        plan_of(learner)


def test_the_mask_loss_follows_its_schedule():
    learner = opaque(learner_of(AutoMix(mask_loss={'weight': 0.2, 'margin': 0.0, 'schedule': 'cosine'})))
    found = []
    for progress in (0.0, 0.5, 0.75):
        fix_lam(learner.policy, 0.9, 0.5)
        found.append(float(plan_of(learner, progress=progress).losses['mask'].detach()))
    assert found[1] == pytest.approx(found[0] / 2)
    assert found[2] == pytest.approx(found[0] * (1 - math.sqrt(0.5)) / 2)
    masks = []
    learner.policy.mix_block.register_forward_hook(lambda module, args, output: masks.append(output))
    fix_lam(learner.policy, 0.9, 0.5)
    plan_of(learner)
    assert found[0] == pytest.approx(0.2 * abs(float(masks[0].detach().mean()) - 0.9), rel=1e-5)
    assert 'mask' not in plan_of(learner_of(AutoMix(mask_loss={'weight': 0}))).losses


# --- the block and the network


@BOTH
def test_bind_builds_the_block_once(policy):
    mine = policy()
    assert mine.mix_block is None
    assert not mine.state_dict()
    mine.bind(NETWORK)
    block = mine.mix_block
    assert block.channels == 32
    mine.bind(replace(NETWORK))
    assert mine.mix_block is block
    mine.bind(replace(NETWORK, channels=(8, 16, 64)))
    assert mine.mix_block is not block
    assert mine.mix_block.channels == 64
    for stage, channels in ((0, 8), (-2, 16)):
        mine = policy(stage=stage, block={'channels': channels})
        mine.bind(NETWORK)
        assert mine.mix_block.channels == channels


@BOTH
def test_a_network_that_does_not_fit_is_refused(policy):
    with pytest.raises(InputError, match=r'channels=256.*stage 2 of a small network has 32'):
        policy(block={'channels': 256}).bind(NETWORK)
    with pytest.raises(InputError, match='stage 3 of a small network'):
        policy(stage=3).bind(NETWORK)
    with pytest.raises(InputError, match='no mix block yet'):
        policy()(Batch(IMAGES, LABELS), Context())
    with pytest.raises(InputError, match='momentum teacher'):
        MixClassifier({'type': 'CifarResNet'}, {'type': 'LinearHead', 'num_classes': 5}, policy())
    with pytest.raises(InputError, match='teacher'):
        policy().mix(IMAGES, LABELS)


@BOTH
@pytest.mark.parametrize('bound', [False, True])
@pytest.mark.parametrize('block', [None, {'embedding': 'concat', 'joint': True, 'norm': True}])
def test_it_can_be_copied_saved_and_built_again(policy, bound, block):
    mine = policy(block=block, mask_loss={'per': 'sample'}, generator={'every': 2})
    if bound:
        mine.bind(NETWORK)
    names = [
        'arguments_have_defaults', 'arguments_are_stored', 'repr_can_be_built_again', 'copies_are_equal',
        'state_can_be_loaded', 'it_is_documented',
    ]  # fmt: skip
    assert all(not result.message for result in check_policy(mine, only=names, raise_on_failure=True))
    for again in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert len(again.state_dict()) == len(mine.state_dict()) == (len(mine.state_dict()) if bound else 0)
        again.bind(NETWORK)
        if bound:
            assert again.mix_block.channels == 32
            same = zip(again.state_dict().values(), mine.state_dict().values(), strict=True)
            assert all(torch.equal(one, two) for one, two in same)


def test_a_loaded_block_is_kept_by_bind():
    saved = AutoMix()
    saved.bind(NETWORK)
    fresh = AutoMix()
    fresh.load_state_dict(saved.state_dict())
    fresh.bind(NETWORK)
    assert torch.equal(fresh.mix_block.query[0].weight, saved.mix_block.query[0].weight)
    fresh = AutoMix()
    fresh.load_state_dict(saved.state_dict())
    fresh.bind(replace(NETWORK, channels=(8, 16, 64)))
    assert fresh.mix_block.channels == 64


@BOTH
def test_eval_mode_and_a_batch_of_one_are_not_mixed(policy):
    learner = learner_of(policy())
    assert len(plan_of(learner, IMAGES[:1], LABELS[:1]).views) == 1
    learner.eval()
    (view,) = plan_of(learner).views
    assert view.inputs is IMAGES


def test_it_works_as_a_member_of_a_choice():
    learner = learner_of(RandomChoice([AutoMix(), Mixup()]))
    assert 'policy.policies.0.mix_block.query.0.weight' in learner.state_dict()
    assert learner.policy.sometimes_unused
    chosen = [set(plan_of(learner, step=step).losses) for step in range(12)]
    assert {'generator', 'mask'} in chosen
    assert set() in chosen
