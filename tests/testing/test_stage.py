"""The learner that the checks put around a policy, and its tiny networks."""

import copy
import pickle

import pytest
import torch

from openmixup.models import Student
from openmixup.models.probe import Probe
from openmixup.policies import AttentiveMix, AutoMix, CutMix, MixupE, RandomChoice, RecursiveMix, TransMix, Vanilla
from openmixup.testing import check_policy, count_operators
from openmixup.testing.devices import on_device
from openmixup.testing.networks import tiny_network
from openmixup.testing.scenes import draw, expected_shares, has_partner, label_of, noise, origins, shares
from openmixup.testing.stage import finishes, full_step, is_staged, keeps_history, learner_of, looks

SIZES = [(6, 6), (7, 11), (8, 8), (16, 24), (32, 32)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('attention', [False, True])
@pytest.mark.parametrize('channels', [1, 3, 17])
def test_tiny_networks_take_any_channels_sizes_and_types(attention, size, channels):
    network = Student(tiny_network(attention), {'main': torch.nn.Identity()}).eval()
    probe = Probe({'student': network}, None)
    for dtype in (torch.float64, torch.float16):
        images = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0)).to(dtype)
        assert network.vectors(images).shape == (2, network.backbone.num_features)
        assert probe.features(images).ndim == 4
    if attention:
        looked = probe.attention(images)
        assert looked.shape[:2] == (2, 2)
        rows, columns = looked.shape[2:]
        assert rows * size[1] == columns * size[0]  # square patches
        assert ((looked > 0) & (looked < 0.9)).all()


def test_tiny_networks_always_have_the_same_weights_and_share_none():
    first, second = tiny_network(), tiny_network()
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)
        assert one is not two
    before = torch.get_rng_state()
    tiny_network(True)
    assert torch.equal(torch.get_rng_state(), before)


def test_tiny_networks_see_the_colours_of_flat_images_apart():
    batch = origins(CutMix(), 16, 8, 8)
    for attention in (False, True):
        vectors = tiny_network(attention).eval()(batch.images)
        assert torch.pdist(vectors).min() > 1e-3


def test_policies_of_pixels_need_no_learner():
    assert [is_staged(policy) for policy in (CutMix(), Vanilla(), RandomChoice())] == [False] * 3
    staged = [AutoMix(), AttentiveMix(), RecursiveMix(), TransMix(), MixupE(), RandomChoice([{'type': 'AutoMix'}])]
    assert [is_staged(policy) for policy in staged] == [True] * 6
    assert [looks(policy) for policy in staged] == [True, True, True, True, False, True]
    assert [keeps_history(policy) for policy in staged] == [False, False, True, False, False, False]
    assert [finishes(policy) for policy in staged] == [False, False, True, True, True, False]


def test_the_learner_is_kept_with_its_policy_and_left_out_of_copies():
    policy = AutoMix().train()
    learner = learner_of(policy)
    assert learner_of(policy) is learner
    assert learner.policy is policy
    for again in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert learner_of(again) is not learner
        assert torch.equal(again.mix_block.query[0].weight, policy.mix_block.query[0].weight)
    assert learner_of(policy, classes=5) is not learner
    assert learner_of(policy, classes=5).student.heads['main'].num_classes == 5


def test_learners_of_equal_policies_are_equal_and_the_mode_of_the_policy_stays():
    first, second = AutoMix().train(), AutoMix().eval()
    states = [learner_of(policy).state_dict() for policy in (first, second)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert (first.training, second.training) == (True, False)
    assert learner_of(second).student.training


def test_frozen_networks_are_replaced_and_nothing_is_downloaded():
    policy = AttentiveMix(teacher={'type': 'TimmBackbone', 'model': 'resnet18', 'pretrained': True}).train()
    (guide,) = learner_of(policy)._guides.values()
    assert type(guide.backbone).__name__ == 'TinyConvNet'
    assert not guide.training
    assert not any(parameter.requires_grad for parameter in guide.parameters())
    only = ['inputs_are_not_touched', 'dtype_is_kept', 'nothing_is_read_from_the_device', 'a_look_leaves_no_trace']
    check_policy(policy, only=only, raise_on_failure=True)


def test_a_step_leaves_the_student_and_the_global_state_alone():
    policy = TransMix().train()
    learner = learner_of(policy)
    before, state = copy.deepcopy(learner.student.state_dict()), torch.get_rng_state()
    full_step(learner, noise(policy, 4, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in learner.student.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_are_final_where_they_are_asked_for():
    policy = TransMix().train()
    batch = origins(policy, 4, 16, 16)
    made, final = draw(policy, batch, seed=3), draw(policy, batch, seed=3, final=True)
    assert torch.equal(made.views[0].inputs, final.views[0].inputs)
    assert not torch.equal(made.views[0].mixture.weight, final.views[0].mixture.weight)
    assert label_of(final) == 'semantic'


def test_a_policy_with_a_history_has_one_in_each_draw_and_starts_anew():
    policy = RecursiveMix().train()
    batch = origins(policy, 4, 16, 16)
    first, second = draw(policy, batch, seed=1), draw(policy, batch, seed=1)
    assert has_partner(first.views[0])
    assert torch.equal(first.views[0].inputs, second.views[0].inputs)
    gap = shares(first.views[0]).mean((2, 3)) - expected_shares(first, first.views[0])
    assert gap.abs().max() < 1e-5
    assert not has_partner(draw(policy, type(batch)(batch.images, batch.labels), seed=1).views[0])


def test_passes_of_networks_are_not_counted():
    class Looks(CutMix):
        """Looks at features, and launches one operator."""

        needs = ('features',)

        def view(self, batch, partner, lam, ctx):
            ctx.probe.features(batch.images).add(1)
            return super().view(batch, partner, lam, ctx)

    images, labels = torch.zeros(4, 3, 8, 8, device='meta'), torch.zeros(4, dtype=torch.long, device='meta')
    plain = count_operators(CutMix().train(), images, labels)
    assert count_operators(Looks().train(), images, labels) == plain + 1


def test_a_bank_moves_with_its_batch():
    from openmixup.policies import CMO

    batch = on_device(noise(CMO(), 3, 4, 4), 'meta')
    assert batch.bank.images.is_meta
    assert len(batch.bank) == 4
