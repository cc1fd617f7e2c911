import pytest
import torch
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import CMO, AutoMix, Batch, Context, CutMix, Mixup, Plan, RandomChoice, Tap, Vanilla, View
from openmixup.policies.base import MixPolicy
from openmixup.policies.static.recursivemix import RecursiveMix
from openmixup.policies.wrap.mixupe import MixupE
from openmixup.policies.wrap.regmixup import RegMixup

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 4, 2, 2])


def learner(policy, **arguments):
    torch.manual_seed(0)
    backbone = {'type': 'CifarResNet', 'depth': 8, 'width': 4}
    return MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, policy, **arguments)


def fixed(model, training=False):
    """The student in eval mode, so that each image's logits are its own; the policy mixes."""
    model.student.train(training)
    model.policy.train()
    model.context = Context(seed=3)
    return model


def total(model):
    loss, _ = model.parse_losses(model(IMAGES, LABELS, mode='loss'))
    model.zero_grad()
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in model.student.parameters()]


@pytest.mark.parametrize('eta', [0.3, 1.0])
@pytest.mark.parametrize('join', [True, False])
def test_the_loss_is_that_of_the_paper(eta, join):
    model = fixed(learner(RegMixup(CutMix(), eta=eta, join=join)))
    loss, _ = total(model)
    view = CutMix()(Batch(IMAGES, LABELS), Context(seed=3)).views[0]
    partner, lam = view.mixture.index[:, 1], view.mixture.weight[:, 0]
    own, other = (
        functional.cross_entropy(model(view.inputs), labels, reduction='none') for labels in (LABELS, LABELS[partner])
    )
    clean = functional.cross_entropy(model(IMAGES), LABELS)
    torch.testing.assert_close(loss, (clean + eta * (lam * own + (1 - lam) * other).mean()).detach())


def test_eta_0_is_plain_cross_entropy():
    loss, slopes = total(fixed(learner(RegMixup(eta=0.0, join=False)), training=True))
    plain_loss, plain_slopes = total(fixed(learner({'type': 'Vanilla'}), training=True))
    assert torch.equal(loss, plain_loss)
    for slope, plain in zip(slopes, plain_slopes, strict=True):
        assert torch.equal(slope, plain)


def test_concat_mean_is_one_mean_over_the_doubled_batch():
    loss, slopes = total(fixed(learner(RegMixup(reduction='concat_mean')), training=True))
    twice, twice_slopes = total(fixed(learner(RegMixup()), training=True))
    torch.testing.assert_close(loss * 2, twice)
    for slope, other in zip(slopes, twice_slopes, strict=True):
        torch.testing.assert_close(slope * 2, other)
    model = fixed(learner(RegMixup()), training=True)
    view = Mixup(10.0)(Batch(IMAGES, LABELS), Context(seed=3)).views[0]
    targets = torch.cat([view.mixture.soft(LABELS, 5), functional.one_hot(LABELS, 5).float()])
    torch.testing.assert_close(
        loss, functional.cross_entropy(model(torch.cat([view.inputs, IMAGES])), targets).detach()
    )


@pytest.mark.parametrize('join', [True, False])
def test_batch_norm_sees_both_halves_at_once_or_one_after_the_other(join):
    model = fixed(learner(RegMixup(join=join)), training=True)
    total(model)
    norm = model.student.backbone.get_submodule('stage1')[0].conv1[1]
    assert int(norm.num_batches_tracked) == (1 if join else 2)


def test_clean_logits_are_those_of_a_clean_pass():
    model = fixed(learner(RegMixup()))
    plan, ctx = model.plan(IMAGES, LABELS)
    assert plan.join
    assert model.policy.finish(plan, (None, None), ctx).join
    clean = model.run_views(plan)[-1].logits
    assert plan.views[-1].inputs is IMAGES
    torch.testing.assert_close(clean, model(IMAGES))


def test_alpha_20_keeps_lam_near_one_half():
    lam = torch.cat([
        RegMixup(Mixup(20.0))(Batch(IMAGES[:2, :1, :1, :1], None), Context(seed=seed)).views[0].mixture.weight[:1, 0]
        for seed in range(2000)
    ])  # fmt: skip
    assert float(lam.mean()) == pytest.approx(0.5, abs=5 * 0.078 / 2000**0.5)
    assert float(lam.std()) == pytest.approx(0.078, abs=5 * 0.078 / 4000**0.5)
    assert RegMixup().policy.alpha == 10


class Tapped(Mixup):
    """Changes a hidden stage."""

    needs = ('tap',)

    def plan(self, batch, ctx):
        view = self.unmixed(batch).views[0]
        return Plan(batch, (View(view.inputs, view.mixture, tap=Tap(0, lambda hidden: hidden)),), self)


class Silent(Tapped):
    """Changes a hidden stage, and does not say so."""

    needs = ()


class Taller(MixPolicy):
    """Puts two images on top of each other."""

    def plan(self, batch, ctx):
        view = self.unmixed(batch).views[0]
        return Plan(batch, (View(torch.cat([batch.images] * 2, 2), view.mixture),), self, {'extra': torch.tensor(2.0)})


def test_heads_of_their_own_cannot_be_joined():
    for policy in (AutoMix(), RandomChoice([AutoMix(), Mixup()])):
        with pytest.raises(InputError, match=r'has heads of its own \(mix\): give join=False'):
            RegMixup(policy)
    assert RegMixup(AutoMix(), join=False).heads == ('mix',)


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(InputError, match='Tapped changes a hidden stage of its own view only: give join=False'):
        RegMixup(Tapped())
    for policy in (Silent(), Taller()):
        with pytest.raises(InputError, match='join=False'):
            RegMixup(policy)(Batch(IMAGES, LABELS), Context())
    for policy in (Tapped(), Silent(), Taller()):
        plan = RegMixup(policy, join=False)(Batch(IMAGES, LABELS), Context())
        assert len(plan.views) == 2
        assert not plan.join


UNMIXED = {
    'one image': (Mixup(), 1),
    'a member': (RandomChoice([Vanilla()]), 6),
    'outside its window': (CMO(window=(3, None)), 6),
    'outside its epochs': (RandomChoice([Mixup()], epochs=[(3, None)]), 6),
    'before there is a history': (RecursiveMix(), 6),
}


@pytest.mark.parametrize('join', [True, False])
@pytest.mark.parametrize('reduction', ['sum', 'concat_mean'])
@pytest.mark.parametrize('name', UNMIXED)
def test_an_unmixed_batch_is_learned_once(name, reduction, join):
    inner, size = UNMIXED[name]
    model = fixed(learner(RegMixup(inner, 0.5, reduction, join)))
    bank = Batch(IMAGES, LABELS) if 'bank' in inner.needs else None
    model.policy.load_rank_state({})
    plan, context = model.plan(IMAGES[:size], LABELS[:size], bank)
    assert len(plan.views) == 1
    outputs = model.run_views(plan)
    plan = model.policy.finish(plan, outputs, context)
    share = 1.0 if reduction == 'sum' else 0.5
    assert [view.share for view in plan.views] == [share]
    assert plan.views[0].inputs.data_ptr() == IMAGES.data_ptr()
    model.policy.load_rank_state({})
    losses = model.loss(IMAGES[:size], LABELS[:size], bank)
    clean = functional.cross_entropy(model(IMAGES[:size]), LABELS[:size])
    torch.testing.assert_close(model.parse_losses(losses)[0], share * clean)


def test_an_unmixed_batch_is_learned_as_the_inner_policy_would():
    """MixupE has a term of the clean batch, which it keeps."""
    losses = [
        fixed(learner(policy)).loss(IMAGES[:1], LABELS[:1])
        for policy in (MixupE(eta=3.0), RegMixup(MixupE(eta=3.0), 0.5))
    ]
    assert losses[0].keys() == losses[1].keys()
    for name, term in losses[0].items():
        torch.testing.assert_close(term, losses[1][name])


def test_losses_of_the_inner_policy_belong_to_the_mixed_part():
    for reduction, expected in (('sum', 1.0), ('concat_mean', 0.5)):
        policy = RegMixup(Taller(), eta=0.5, reduction=reduction, join=False)
        plan = policy(Batch(IMAGES, LABELS), Context())
        assert float(plan.losses['extra']) == expected
        assert [view.share for view in plan.views] == [0.5 * expected, expected]
        done = policy.finish(plan, (None, None), Context())
        assert float(done.losses['extra']) == expected  # not weighted twice
        assert [view.share for view in done.views] == [0.5 * expected, expected]


def test_the_clean_view_has_the_labels_that_the_inner_policy_left():
    model = fixed(learner(RegMixup(RecursiveMix(omega=0.0))))
    for _ in range(2):
        loss, _ = total(model)
    plan = model.last_plan
    assert plan.batch.target == 'soft'
    mixed, clean = plan.views
    assert torch.equal(clean.mixture.soft(plan.batch.source_labels), functional.one_hot(LABELS, 5).float())
    expected = sum(
        functional.cross_entropy(model(view.inputs), view.mixture.soft(plan.batch.source_labels))
        for view in (mixed, clean)
    )
    torch.testing.assert_close(loss, expected.detach())


@pytest.mark.parametrize(('options', 'match'), [
    ({'eta': -0.1}, 'at least 0'),
    ({'eta': True}, 'at least 0'),
    ({'eta': float('nan')}, 'at least 0'),
    ({'reduction': 'mean'}, 'sum, concat_mean'),
    ({'join': 'yes'}, 'expected True or False'),
    ({'reduction': ['sum']}, 'sum, concat_mean'),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        RegMixup(**options)
