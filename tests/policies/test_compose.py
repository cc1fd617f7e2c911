import copy
from dataclasses import replace
from math import sqrt

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, CutMix, MixPolicy, Mixup, RandomChoice, Vanilla
from openmixup.registry import POLICIES

IMAGES, LABELS = torch.randn(4, 3, 8, 8), torch.arange(4)


def plan(policy, seed=0, epoch=0):
    return policy(Batch(IMAGES, LABELS), Context(seed=seed, epoch=epoch))


def chosen(policy, epoch=0, count=400):
    members = list(policy.policies)
    plans = [plan(policy, seed, epoch) for seed in range(count)]
    return [sum(p.chosen is member for p in plans) / count for member in members]


def test_vanilla_is_the_batch_itself():
    policy = Vanilla()
    view = policy.mix(IMAGES, LABELS)
    assert view.inputs is IMAGES
    assert policy.rate == 0
    assert torch.equal(view.mixture.soft(LABELS, 4), torch.eye(4))
    assert torch.equal(view.masks, torch.ones(4, 1, 8, 8))


@pytest.mark.parametrize('probs', [None, (0.1, 0.2, 0.7)])
def test_members_come_at_their_rate(probs):
    policy = RandomChoice([Mixup(), CutMix(), Vanilla()], probs)
    for share, prob in zip(chosen(policy), probs or (1 / 3,) * 3, strict=True):
        assert abs(share - prob) < 5 * sqrt(prob * (1 - prob) / 400)
    assert policy.rate == pytest.approx(1 - (probs or (1 / 3,) * 3)[2])


def test_epoch_windows_scale_the_rest_to_one():
    policy = RandomChoice([Mixup(), CutMix(), Vanilla()], [0.5, 0.3, 0.2], [(0, 2), (1, None), (0, 3)])
    assert policy.shares(0).tolist() == pytest.approx([5 / 7, 0, 2 / 7])
    assert policy.shares(1).tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert policy.shares(2).tolist() == pytest.approx([0, 0.6, 0.4])
    assert policy.shares(3).tolist() == pytest.approx([0, 1, 0])
    assert chosen(policy, epoch=3, count=20) == [0, 1, 0]


def test_nothing_is_mixed_in_an_epoch_without_members():
    policy = RandomChoice([Mixup()], epochs=[(2, 4)])
    assert policy.rate == 0
    for epoch, mixed in ((0, False), (1, False), (2, True), (3, True), (4, False)):
        found = plan(policy, epoch=epoch)
        assert (found.inner is not None) == mixed
        assert torch.equal(found.views[0].inputs, IMAGES) != mixed
        assert policy.finish(found, (), Context()).views is found.views


def test_choices_can_be_nested():
    policy = RandomChoice([RandomChoice([Mixup(), Vanilla()]), CutMix()], [0.5, 0.5])
    assert policy.rate == pytest.approx(0.75)
    assert {type(plan(policy, seed).chosen) for seed in range(40)} == {Mixup, Vanilla, CutMix}


def test_finish_goes_to_the_member_that_made_the_plan():
    class Finishing(Mixup):
        def finish(self, plan, outputs, ctx):
            return replace(plan, losses={'seen': outputs[0]})

    policy = RandomChoice([Finishing()])
    assert policy.finish(plan(policy), ('out',), Context()).losses == {'seen': 'out'}


class Louder(MixPolicy):
    """A policy around another one: both of them finish, each its own plan."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def plan(self, batch, ctx):
        return self.around(self.policy(batch, ctx))

    def finish(self, plan, outputs, ctx):
        inner = self.policy.finish(plan.inner, outputs, ctx)
        return replace(self.around(inner), losses={**inner.losses, f'loud{len(inner.losses)}': 1})


def test_compositions_and_wrappers_nest_in_any_order():
    for policy, losses in (
        (Louder(RandomChoice([Louder(CutMix())])), {'loud0': 1, 'loud1': 1}),
        (RandomChoice([Louder(RandomChoice([Mixup()]))]), {'loud0': 1}),
        (RandomChoice([RandomChoice([Louder(Louder(Vanilla()))])]), {'loud0': 1, 'loud1': 1}),
    ):
        made = plan(policy)
        assert made.policy is policy
        assert type(made.chosen) in (CutMix, Mixup, Vanilla)
        assert policy.finish(made, (), Context()).losses == losses


def test_needs_are_those_of_any_member():
    class Attentive(Mixup):
        needs = ('attention', 'pixels')

    policy = RandomChoice([Mixup(), Attentive()])
    assert policy.needs == ('attention', 'pixels')
    with pytest.raises(InputError, match='needs attention of a network'):
        policy.mix(IMAGES, LABELS)


def test_weights_sum_to_one_if_those_of_every_member_do():
    soft = {'type': 'SoftAugmentation'}
    assert RandomChoice([Vanilla(), {'type': 'Mixup'}]).normalised
    assert not RandomChoice([Vanilla(), soft]).normalised
    with pytest.raises(InputError, match='changes how far they are trusted'):
        POLICIES.build({'type': 'KeepAugment', 'mode': 'paste', 'policy': {'type': 'RandomChoice', 'policies': [soft]}})


def test_built_from_a_config():
    cfg = {
        'type': 'RandomChoice',
        'policies': [{'type': 'Mixup', 'alpha': 0.8}, {'type': 'CutMix'}, {'type': 'Vanilla'}],
        'probs': [0.4, 0.4, 0.2],
    }
    before = copy.deepcopy(cfg)
    policy = POLICIES.build(cfg)
    assert cfg == before
    assert policy.policies[0].alpha == 0.8
    again = POLICIES.build(cfg)
    assert repr(again) == repr(policy)
    with pytest.raises(InputError, match="did you mean 'alpha'"):
        POLICIES.build({'type': 'RandomChoice', 'policies': [{'type': 'Mixup', 'alhpa': 1}]})


def test_eval_mode_reaches_the_members():
    policy = RandomChoice([Mixup(), CutMix()]).eval()
    assert not policy.policies[0].training
    assert policy.mix(IMAGES, LABELS).inputs is IMAGES


@pytest.mark.parametrize(('options', 'match'), [
    ({'policies': []}, 'nothing to choose from'),
    ({'probs': [0.5]}, '1 probs for 2 policies'),
    ({'probs': [0.5, 0.6]}, 'sum to 1'),
    ({'probs': [-0.5, 1.5]}, 'sum to 1'),
    ({'probs': [float('nan'), 1.0]}, 'sum to 1'),
    ({'epochs': [(0, 1)]}, '1 epochs for 2 policies'),
    ({'epochs': [(0, 1), (3, 3)]}, '0 <= first < end'),
    ({'policies': ['Mixup']}, 'given as dict'),
    ({'policies': 5}, 'policies=5.: expected a list of policies'),
    ({'policies': {'type': 'Mixup'}}, 'expected a list of policies'),
    ({'policies': 'Mixup'}, 'expected a list of policies'),
    ({'probs': 0.5}, 'probs=0.5.: expected numbers'),
    ({'probs': ['a', 'b']}, 'expected numbers of at least 0 that sum to 1'),
    ({'probs': ['0.5', '0.5']}, 'expected numbers of at least 0 that sum to 1'),
    ({'probs': [True, False]}, 'expected numbers of at least 0 that sum to 1'),
    ({'epochs': 5}, 'epochs=5.: expected a list of'),
    ({'epochs': [4, 8]}, r'has 4: expected \(first, end\) with 0 <= first < end'),
    ({'epochs': [(0, 1, 2), (0, None)]}, '0 <= first < end'),
    ({'epochs': [('0', None), (0, None)]}, '0 <= first < end'),
    ({'epochs': [(0, 'a'), (0, None)]}, '0 <= first < end'),
    ({'epochs': ['04', '48']}, '0 <= first < end'),
    ({'epochs': [(False, True), (0, None)]}, '0 <= first < end'),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        RandomChoice(**options)


def test_members_share_frozen_networks_and_may_not_disagree_on_one():
    teacher = {'type': 'TimmBackbone', 'model': 'resnet18'}
    same = RandomChoice([{'type': 'AttentiveMix', 'teacher': teacher}, {'type': 'AttentiveMix', 'teacher': teacher}])
    assert list(same.networks.values()) == [teacher]
    other = {**teacher, 'model': 'resnet50'}
    choice = RandomChoice([{'type': 'AttentiveMix', 'teacher': config} for config in (teacher, other)])
    with pytest.raises(InputError, match='two members of RandomChoice want different networks'):
        _ = choice.networks
