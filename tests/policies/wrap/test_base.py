"""Wrappers in choices, choices in wrappers, and what a wrapper leaves to its inner policy."""

from dataclasses import replace

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, CutMix, Mixup, Network, RandomChoice, Vanilla
from openmixup.policies.static.recursivemix import RecursiveMix
from openmixup.policies.wrap.base import WrapPolicy, add_loss
from openmixup.policies.wrap.lumix import LUMix
from openmixup.policies.wrap.mixupe import MixupE
from openmixup.policies.wrap.regmixup import RegMixup
from openmixup.registry import POLICIES

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 4, 2, 2])
NETWORK = Network(5, 16, ('stage1', 'stage2', 'stage3'), (4, 8, 16), (1, 1, 1), 16)


def learner(policy, **arguments):
    torch.manual_seed(0)
    backbone = {'type': 'CifarResNet', 'depth': 8, 'width': 4}
    return MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, policy, **arguments)


class Recorder(Mixup):
    """Notes what its ``finish`` is given, and leaves a loss."""

    def __init__(self, alpha=1.0):
        super().__init__(alpha)
        self.seen = []

    def finish(self, plan, outputs, ctx):
        assert plan.policy is self
        self.seen.append(tuple(outputs))
        return replace(plan, losses={**plan.losses, 'recorded': torch.ones(())})


class Everything(Mixup):
    """Asks for all there is to ask."""

    needs = ('cam', 'pixels')
    heads = ('other',)
    label = 'semantic'
    normalised = False
    operators = 3
    rate = 0.25
    sometimes_unused = True
    networks = {'guide': {'type': 'LeNet5'}}
    bound = state = None

    def bind(self, network):
        self.bound = network

    def rank_state(self):
        return {'history': torch.ones(2)}

    def load_rank_state(self, state):
        self.state = state


def test_questions_go_to_the_inner_policy():
    inner = Everything()
    policy = RegMixup(RegMixup(inner, join=False), join=False)
    assert policy.needs == ('cam', 'pixels')
    assert LUMix(inner).needs == ('cam', 'pixels', 'logits')
    assert policy.heads == ('other',)
    assert (policy.label, policy.normalised, policy.rate) == ('semantic', False, 0.25)
    assert RegMixup().label == 'drawn'
    assert LUMix(Mixup()).label == 'semantic'
    assert policy.networks == inner.networks
    assert policy.sometimes_unused
    assert policy.operators == 3 + 2 * RegMixup.own_operators
    policy.bind(NETWORK)
    assert inner.bound is NETWORK
    assert torch.equal(policy.rank_state()['history'], torch.ones(2))
    policy.load_rank_state({'history': torch.zeros(1)})
    assert torch.equal(inner.state['history'], torch.zeros(1))


@pytest.mark.parametrize('wrapper', [RegMixup, MixupE, LUMix])
def test_the_inner_policy_finishes_with_the_outputs_of_its_own_views(wrapper):
    inner = Recorder()
    policy = wrapper(inner)
    ctx = Context(criterion=lambda logits, labels, mixture: logits.log_softmax(1).logsumexp(1) + logits.square().sum(1))
    plan = policy(Batch(IMAGES, LABELS), ctx)
    assert plan.policy is policy
    assert plan.inner.policy is inner
    assert plan.inner.views[0].inputs is plan.views[0].inputs
    logits = [torch.randn(6, 5, requires_grad=True) for _ in plan.views]
    outputs = tuple(type('Output', (), {'logits': each})() for each in logits)
    done = policy.finish(plan, outputs, ctx)
    assert [each.logits is logits[0] for (each,) in inner.seen] == [True]
    assert done.policy is policy
    assert 'recorded' in done.losses
    assert len(done.views) == len(plan.views)


def nestings():
    choice = [{'type': 'Mixup'}, {'type': 'CutMix'}, {'type': 'Vanilla'}]
    return {
        'wrappers in wrappers': MixupE(RegMixup(LUMix(CutMix()), eta=0.5), constant=0.3),
        'a choice in wrappers': RegMixup(LUMix(RandomChoice(choice))),
        'wrappers in a choice': RandomChoice([RegMixup(), MixupE(variant='jvp'), LUMix(), CutMix()]),
        'both': RandomChoice([RegMixup(RandomChoice([MixupE(), LUMix(), RecursiveMix()]), join=False), RecursiveMix()]),
        'the same twice': MixupE(MixupE(RegMixup(RegMixup()), constant=0.3), variant='jvp_abs', constant=0.3),
        'a history': RegMixup(MixupE(LUMix(RecursiveMix()), constant=0.3)),
    }  # fmt: skip


@pytest.mark.parametrize('name', nestings())
def test_any_nesting_trains(name):
    model = learner(nestings()[name]).train()
    leaves = set()
    for step in range(12):
        model.context = Context(seed=1, step=step)
        losses = model(IMAGES, LABELS, mode='loss')
        total, _ = model.parse_losses(losses)
        model.zero_grad()
        total.backward()
        assert bool(total.isfinite())
        assert all(bool(p.grad.isfinite().all()) for p in model.student.parameters())
        plan = model.last_plan
        while plan.inner is not None:
            assert plan.policy is not plan.inner.policy
            plan = plan.inner
        leaves.add(type(plan.policy))
    assert leaves <= {Mixup, CutMix, Vanilla, RecursiveMix}
    assert len(leaves) > 1 or 'choice' not in name


def test_terms_of_one_name_are_added():
    plan = Mixup()(Batch(IMAGES, LABELS), Context())
    twice = add_loss(add_loss(plan, 'mixupe', torch.tensor(1.0)), 'mixupe', torch.tensor(2.0))
    assert float(twice.losses['mixupe']) == 3
    assert not plan.losses


@pytest.mark.parametrize('wrapper', [RegMixup, MixupE, LUMix])
def test_nothing_is_mixed_in_eval_mode(wrapper):
    policy = wrapper(Recorder()).eval()
    plan = policy(Batch(IMAGES, LABELS), Context())
    assert len(plan.views) == 1
    assert plan.views[0].inputs is IMAGES
    assert policy.finish(plan, (None,), Context()) is plan
    assert policy.policy.seen == []


def test_a_batch_of_one_is_for_the_inner_policy_to_judge():
    inner = RecursiveMix()
    inner.bind(NETWORK)
    policy = RegMixup(inner)
    plan = policy(Batch(IMAGES[:1], LABELS[:1]), Context())
    assert plan.inner is not None  # so that its history goes on
    assert plan.inner.policy is inner


def test_built_from_a_config_and_from_its_own_words():
    policy = POLICIES.build(
        {'type': 'RegMixup', 'policy': {'type': 'LUMix', 'policy': {'type': 'Mixup', 'alpha': 0.5}}}
    )
    assert policy.policy.policy.alpha == 0.5
    assert repr(policy) == (
        "RegMixup(policy=LUMix(policy=Mixup(alpha=0.5, per='batch', pairing='permutation'), predicted=0.4, drawn=0.1), "
        "eta=1.0, reduction='sum', join=True)"
    )


@pytest.mark.parametrize('wrapper', [RegMixup, MixupE, LUMix])
def test_what_is_no_policy_is_refused(wrapper):
    with pytest.raises(InputError, match='is a Linear: expected a mixing policy'):
        wrapper(torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match='given as dict'):
        wrapper('Mixup')
    with pytest.raises(InputError, match="did you mean 'alpha'"):
        wrapper({'type': 'Mixup', 'alhpa': 1.0})
    assert issubclass(wrapper, WrapPolicy)
