"""Every registered policy, with its variants, does what it says."""

import copy
import dataclasses

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, CutMix, MixPolicy, Mixup, PixMix
from openmixup.registry import POLICIES
from openmixup.testing import CHECKS, PolicyCheckError, check_policy, count_operators, default_policies
from openmixup.testing.scenes import random_images, shown
from openmixup.testing.stage import full_step, is_staged, learner_of

POLICIES_BY_NAME = default_policies()
# What no pairing changes, and what is checked for all pairings in turn, is checked with the default one only.
ONE_PAIRING = {
    'lam_follows_its_law', 'weights_follow_lam', 'every_pixel_has_its_turn', 'partners_follow_the_pairing',
    'calls_without_a_generator_differ', 'few_operators_are_launched', 'memory_layout_does_not_matter',
}  # fmt: skip
CASES = [
    (name, check) for name in POLICIES_BY_NAME for check in CHECKS if 'pairing' not in name or check not in ONE_PAIRING
]


@pytest.mark.parametrize(('name', 'check'), CASES)
def test_policy_does_what_it_says(name, check):
    CHECKS[check](POLICIES_BY_NAME[name])


def test_every_registered_policy_is_swept():
    assert {type(policy).__name__ for policy in POLICIES_BY_NAME.values()} == {
        name for name, cls in POLICIES.module_dict.items() if cls.__module__.startswith('openmixup.')
    }
    assert {'CutMix-per=sample', 'Mixup-pairing=flip', 'RandomChoice-uneven'} <= set(POLICIES_BY_NAME)


@pytest.mark.parametrize('name', [name for name in POLICIES_BY_NAME if 'pairing' not in name])
def test_a_batch_of_one_beside_a_bank_is_sound(name):
    policy = copy.deepcopy(POLICIES_BY_NAME[name]).train()
    images, labels = random_images(4, 16, 20), torch.arange(4)
    batch = Batch(images[:1], labels[:1], Batch(images[1:], labels[1:]))
    for seed in range(2):
        context = Context(generator=torch.Generator().manual_seed(seed))
        if is_staged(policy):
            learner_of(policy).context = context
            plan = full_step(learner_of(policy), batch)
        else:
            plan = policy(batch, context)
        for view in plan.views:
            index, weight = view.mixture.index, view.mixture.weight
            assert len(view.inputs) == len(index) == len(weight) in (1, 4)  # the image, or all sources as they are
            assert shown(view).isfinite().all()
            assert set(index.flatten().tolist()) <= set(range(4))
            assert view.masks is None or view.masks.shape[:2] == weight.shape
            if plan.policy.normalised:
                torch.testing.assert_close(weight.sum(1), torch.ones(len(weight)))
    assert torch.equal(images, random_images(4, 16, 20))


# of its 128 pictures it takes luck to see that they are not alike at all borders
FEW_PICTURES = PixMix(rounds=1, beta=0.5, severity=10.0, count=3)
EXEMPTIONS = [(name, check) for name, policy in POLICIES_BY_NAME.items() for check in getattr(policy, 'exempt', {})]


@pytest.mark.parametrize(('name', 'check'), [case for case in EXEMPTIONS if '-' not in case[0]])
def test_nothing_is_exempt_from_what_it_passes(name, check):
    policy = FEW_PICTURES if name == 'PixMix' else POLICIES_BY_NAME[name]
    with pytest.raises(PolicyCheckError):
        CHECKS[check].__wrapped__(copy.deepcopy(policy).train())


def test_a_policy_may_be_exempt_for_a_reason():
    class Exempt(Mixup):
        """Exempt from one check."""

        exempt = {'weights_are_sound': 'it is a test'}

        def view(self, batch, partner, lam, ctx):
            raise AssertionError('not called')

    (result,) = check_policy(Exempt, only=['weights_are_sound'])
    assert result.ok
    assert result.message == 'exempt: it is a test'


class Attentive(CutMix):
    """Needs attention, and makes nothing of it."""

    needs = ('attention',)
    seen = set()

    def view(self, batch, partner, lam, ctx):
        self.seen.add(tuple(ctx.probe.attention(batch.images).shape))
        return super().view(batch, partner, lam, ctx)


def test_a_policy_that_needs_a_network_is_checked_in_a_learner():
    check_policy(Attentive, raise_on_failure=True)
    assert {(5, 2, 4, 4), (5, 2, 7, 11)} <= Attentive.seen  # batch, heads, and patches of 8x8 and 7x11 pixels


def test_what_no_learner_provides_is_not_checked():
    class Listens(Mixup):
        """Needs sound."""

        needs = ('sound',)

    results = check_policy(Listens)
    assert {result.message for result in results} == {'not run: it needs sound, which MixClassifier does not provide'}


def test_what_the_losses_of_a_policy_train_is_declared():
    class Clean(CutMix):
        """A loss by a head of its own goes through the network."""

        needs = ('features',)

        def bind(self, network):
            self.head = torch.nn.Linear(network.map_channels, 2)

        def finish(self, plan, outputs, ctx):
            loss = self.head(outputs[0].features.mean((2, 3))).square().mean()
            return dataclasses.replace(plan, losses={'clean': loss})

        def plan(self, batch, ctx):
            plan = super().plan(batch, ctx)
            return dataclasses.replace(plan, views=(dataclasses.replace(plan.views[0], read=('features',)),))

    class Declared(Clean):
        """Says so."""

        losses_train = 'network'

    only = ['gradients_go_where_they_should']
    assert "set losses_train = 'network' in the class" in check_policy(Clean, only=only)[0].message
    assert check_policy(Declared, only=only)[0].ok


def test_all_that_is_off_is_in_the_error():
    class Odd(Mixup):
        paper = ''

    Odd.__doc__ = None
    with pytest.raises(PolicyCheckError, match='fails 1 of 2 checks:\n  it_is_documented: the class has no docstring'):
        check_policy(Odd(), only=['it_is_documented', 'eval_mode_never_mixes'], raise_on_failure=True)


def test_a_policy_that_breaks_is_reported_and_the_other_checks_go_on():
    class Broken(Mixup):
        def view(self, batch, partner, lam, ctx):
            raise KeyError('lost')

    results = check_policy(Broken, only=['weights_are_sound', 'eval_mode_never_mixes'])
    assert [result.ok for result in results] == [False, True]
    assert "it stopped with KeyError: 'lost'" in results[0].message


def test_checks_leave_the_policy_and_the_global_state_alone():
    policy = Mixup().eval()
    state, before = torch.get_rng_state(), dict(vars(policy))
    check_policy(policy, only=['draws_come_from_the_generator', 'eval_mode_never_mixes'])
    assert torch.equal(torch.get_rng_state(), state)
    assert dict(vars(policy)) == before


def test_wrong_use_is_one_sentence():
    with pytest.raises(InputError, match="did you mean 'weights_are_sound'"):
        check_policy(Mixup, only=['weights_are_sond'])
    with pytest.raises(InputError, match='no mixing policy'):
        check_policy(torch.nn.Linear(1, 1))
    assert issubclass(Mixup, MixPolicy)


def test_operators_are_counted_without_views_allocations_and_host_copies():
    class Counted(Mixup):
        def forward(self, batch, ctx):
            torch.zeros(4).to(batch.images.device)[:, None].expand(-1, 2)  # a copy from the host and two views
            torch.empty_like(batch.images)
            batch.images.add(1).mul(2)
            return self.unmixed(batch)

    images, labels = torch.zeros(4, 3, 8, 8, device='meta'), torch.zeros(4, dtype=torch.long, device='meta')
    unmixed = count_operators(Mixup().eval(), images, labels)
    assert count_operators(Counted(), images, labels) == unmixed + 2
    assert 0 < count_operators(Mixup(), images, labels) <= 3


def test_the_limit_of_operators_is_an_argument():
    (result,) = check_policy(Mixup, only=['few_operators_are_launched'], operators=0)
    assert result.ok  # 0 and None: the default
    policy = Mixup()
    with pytest.raises(PolicyCheckError, match='at most 0'):
        CHECKS['few_operators_are_launched'](policy, limit=0)


@pytest.mark.parametrize(
    'policy', [CutMix(8.0, 'sample'), CutMix(0.05), CutMix(0.02), Mixup(0.01), Mixup(9999)], ids=repr
)
def test_far_arguments_raise_no_false_alarm(policy):
    check_policy(policy, only=['lam_follows_its_law', 'every_pixel_has_its_turn'], raise_on_failure=True)


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('alpha', [0.05, 1.0, 8.0])
def test_a_drawn_label_of_a_clipped_or_empty_box_raises_no_false_alarm(alpha, per):
    class Uncorrected(CutMix):
        """CutMix whose label is the drawn lam."""

        label = 'drawn'

    only = ['label_equals_pixels', 'all_target_kinds_mix_alike', 'weights_follow_lam']
    check_policy(Uncorrected(alpha, per), only=only, raise_on_failure=True)
