import functools
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import AutoMix, Context, SAMix, Vanilla
from openmixup.testing.devices import _Counter
from tests.policies.dynamic.conftest import BOTH, IMAGES, LABELS, fix_lam, gradients, learner_of, opaque, plan_of

# --- what a plan holds


@BOTH
def test_a_step_has_a_clean_and_a_mixed_view_and_the_losses_of_the_block(policy):
    learner = opaque(learner_of(policy(classifier={'clean': 0.5, 'mixed': 2.0})))
    fix_lam(learner.policy, 0.3, 0.6)
    plan = plan_of(learner)
    clean, mixed = plan.views
    assert (clean.head, clean.share, mixed.head, mixed.share) == ('main', 0.5, 'mix', 2.0)
    assert clean.inputs is IMAGES
    assert torch.equal(clean.mixture.soft(LABELS, 5), torch.eye(5)[LABELS])
    assert not mixed.inputs.requires_grad
    assert not mixed.masks.requires_grad
    torch.testing.assert_close(mixed.mixture.weight, torch.tensor([[0.6, 0.4]]).expand(6, 2))
    again = (mixed.masks[:, :, None] * IMAGES[mixed.mixture.index]).sum(1)
    torch.testing.assert_close(again, mixed.inputs, rtol=0, atol=1e-5)
    assert float(mixed.masks.std()) > 0.05
    torch.testing.assert_close(mixed.masks.sum(1), torch.ones(6, 16, 16))
    assert set(plan.losses) == {'generator', 'mask'}
    assert set(learner.loss(IMAGES, LABELS)) >= {'loss_main', 'loss_mix', 'loss_generator_term', 'loss_mask_term'}


@BOTH
def test_both_branches_draw_lam_and_partners_of_their_own(policy):
    learner, seen = opaque(learner_of(policy())), []
    loss = learner.policy.generator_loss
    learner.policy.generator_loss = lambda logits, batch, mixture, ctx: (
        seen.append(mixture) or loss(logits, batch, mixture, ctx)
    )
    for step in range(10):
        seen.append(plan_of(learner, step=step).views[1].mixture)
    pairs = [(seen[i], seen[i + 1]) for i in range(0, 20, 2)]
    assert not any(torch.equal(one.index, two.index) for one, two in pairs)
    assert not any(torch.equal(one.weight, two.weight) for one, two in pairs)
    lams = [float(one.weight[0, i]) for one, two in pairs for i in (0, 1)]
    assert len(set(lams)) == 20


@BOTH
def test_the_classifier_sees_the_masks_of_its_own_pairs_and_lam(policy):
    learner = opaque(learner_of(policy(block={'embedding': 'concat'} if policy is AutoMix else None)))
    fix_lam(learner.policy, 0.3, 0.6)
    view, block = plan_of(learner).views[1], learner.policy.mix_block
    features, code = learner.probe().features(IMAGES, stage=2, of='teacher'), block.encode(torch.tensor([0.6]).double())
    masks = block(features, view.mixture.index[:, 1], code, (16, 16), block.modes[0])
    torch.testing.assert_close(view.masks[:, :1], masks.detach())


@BOTH
def test_one_lam_each(policy):
    learner = learner_of(policy(per='sample'))
    mixture = plan_of(learner).views[1].mixture
    assert len(set(mixture.weight[:, 0].tolist())) == 6
    torch.testing.assert_close(mixture.weight.sum(1), torch.ones(6))


@BOTH
def test_the_block_sees_the_teacher_at_its_stage(policy):
    learner = learner_of(policy(stage=1))
    block, seen = learner.policy.mix_block, []
    block.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    plan_of(learner)
    expected = learner.probe().features(IMAGES, stage=1, of='teacher')
    assert block.channels == 16
    assert len(seen) == 2
    assert all(torch.equal(features, expected) for features in seen)
    student = learner.probe().features(IMAGES, stage=1, of='student')
    with torch.no_grad():
        learner.student.backbone.stem[0].weight.add_(1)
    assert not torch.equal(learner.probe().features(IMAGES, stage=1, of='student'), student)
    assert torch.equal(learner.probe().features(IMAGES, stage=1, of='teacher'), expected)


@BOTH
def test_the_generator_loss_is_that_of_the_teachers_mix_head(policy):
    plain = {'loss': 'plain'} if policy is SAMix else {}
    learner = opaque(learner_of(policy(generator={'loss_weight': 3.0, **plain})))
    fix_lam(learner.policy, 0.3, 0.6)
    seen = []
    hook = learner.teacher.network.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    found = plan_of(learner, seed=1).losses['generator']
    hook.remove()
    (pictures,) = seen  # the first pass ends inside
    rng = Context(seed=1).rng
    first = torch.randperm(6, generator=rng)  # lam is fixed and draws nothing
    network = learner.teacher.network
    logits = network.heads['mix'](network.backbone(pictures)).log_softmax(1)
    rows = torch.arange(6)
    expected = -(0.3 * logits[rows, LABELS] + 0.7 * logits[rows, LABELS[first]]).mean()
    assert float(found.detach()) == pytest.approx(3 * float(expected.detach()), rel=1e-5)


# --- gradients


@BOTH
def test_gradients_take_their_ways(policy):
    learner = opaque(learner_of(policy()))
    plan = plan_of(learner)
    assert gradients(learner, plan.losses['generator']) == [False, False, True]
    plan = plan_of(learner)
    assert gradients(learner, plan.losses['mask']) == [False, False, True]
    terms = learner.loss(IMAGES, LABELS)
    assert gradients(learner, terms['loss_main'] + terms['loss_mix']) == [True, False, False]
    assert all(parameter.grad is None for parameter in learner.teacher.parameters())
    total, _ = learner.parse_losses(learner.loss(IMAGES, LABELS))
    assert gradients(learner, total) == [True, False, True]
    assert all(bool(p.grad.isfinite().all()) for p in learner.parameters() if p.grad is not None)


@BOTH
def test_one_backward_trains_both_as_two_would(policy):
    learner = opaque(learner_of(policy()))

    def trained(terms):
        learner.zero_grad()
        torch.as_tensor(sum(terms)).backward()
        return [None if p.grad is None else p.grad.clone() for p in learner.parameters()]

    learner.context = Context()
    terms = learner.loss(IMAGES, LABELS)
    joint = trained([value for key, value in terms.items() if 'loss' in key])
    terms = learner.loss(IMAGES, LABELS)
    student = trained([terms['loss_main'] + terms['loss_mix']])
    terms = learner.loss(IMAGES, LABELS)
    block = trained([terms['loss_generator_term'] + terms['loss_mask_term']])
    for both, one, two in zip(joint, student, block, strict=True):
        assert one is None or two is None
        apart = two if one is None else one
        assert (both is None) == (apart is None)
        if both is not None:
            torch.testing.assert_close(both, apart)


@BOTH
@pytest.mark.parametrize('lam', [0.9, 0.1])
def test_the_block_learns_to_show_what_the_labels_say(policy, lam):
    """The teacher tells bright images from dark ones by p = sigmoid(6 brightness): p = lam where the mask is right."""
    generator = {'loss': 'plain'} if policy is SAMix else None
    learner = learner_of(policy(mask_loss={'weight': 0.0}, classifier={'lam_margin': 0.0}, generator=generator))
    fix_lam(learner.policy, lam)
    images = torch.tensor([1.0, -1.0] * 4)[:, None, None, None] + IMAGES[:1] / 9
    labels = torch.tensor([0, 1] * 4)

    def brightness(images):
        mean = images.mean((1, 2, 3))[:, None]
        return 3 * torch.cat([mean, -mean], 1)

    network = learner.teacher.network
    network.backbone.forward, network.heads['mix'].forward = brightness, lambda vectors: vectors
    optimizer = torch.optim.Adam(learner.policy.mix_block.parameters(), 0.03)
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        plan = plan_of(learner, images, labels, step=step)
        plan.losses['generator'].backward()
        losses.append(float(plan.losses['generator'].detach()))
        optimizer.step()
    mixed = plan.views[1]
    others = labels[mixed.mixture.index[:, 1]] != labels
    assert sum(losses[-10:]) < sum(losses[:10])
    expected = 0.5 + math.log(lam / (1 - lam)) / 12  # the mixture of +1 and -1 has the brightness 2 mask - 1
    assert float(mixed.masks[others, 0].mean()) == pytest.approx(expected, abs=0.02)


# --- numbers, types, devices


@BOTH
def test_the_same_step_gives_the_same_and_others_give_others(policy):
    def losses(seed=0, **context):
        learner = opaque(
            learner_of(policy(block={'upsample': ['nearest', 'bilinear']}, classifier={'mask_adjust': 0.5}))
        )
        learner.context = Context(seed=seed, **context)
        torch.manual_seed(seed)  # must have no part in it
        return torch.stack([value.detach() for key, value in learner.loss(IMAGES, LABELS).items() if 'loss' in key])

    first = losses(step=4)
    assert torch.equal(first, losses(step=4))
    for other in (losses(step=6), losses(seed=1, step=4), losses(step=4, rank=1)):
        assert not torch.equal(first[1:], other[1:])


@BOTH
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
def test_mixed_images_have_the_type_of_the_images(policy, dtype):
    learner = learner_of(policy(per='sample', classifier={'mask_adjust': 1.0})).to(dtype)
    fix_lam(learner.policy, [0.5] * 6, [0.01, 0.5, 0.95, 0.3, 0.92, 0.1])
    plan = plan_of(learner, IMAGES.to(dtype))
    assert plan.views[1].inputs.dtype == dtype
    assert bool(plan.views[1].inputs.isfinite().all())
    assert plan.losses['generator'].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@BOTH
def test_a_step_in_bfloat16_trains_the_block(policy):
    learner = opaque(learner_of(policy()))
    with torch.autocast('cpu', torch.bfloat16):
        terms = learner.loss(IMAGES, LABELS)
    total, _ = learner.parse_losses(terms)
    assert total.dtype == torch.float32
    assert gradients(learner, total) == [True, False, True]


@BOTH
def test_features_that_are_not_finite_make_a_loss_that_is_not(policy):
    learner = learner_of(policy())
    with torch.no_grad():
        learner.teacher.network.backbone.stage1[0].conv1[0].weight[0, 0, 0, 0] = math.nan
    terms = learner.loss(IMAGES, LABELS)
    assert bool(terms['loss_generator_term'].isnan())
    assert bool(terms['loss_mix'].isnan())
    assert bool(terms['loss_mask_term'].isnan())


@BOTH
@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_nothing_is_read_from_the_device_and_few_operators_are_launched(policy, per):
    """On the meta device there is no value to read. The two passes of the teacher are counted apart."""
    learner = learner_of(policy(per=per, classifier={'mask_adjust': 1.0})).to('meta')
    fix_lam(learner.policy, [0.5] * (6 if per == 'sample' else 1), [0.5, 0.01] * 3 if per == 'sample' else 0.5)
    images, labels = IMAGES.to('meta'), LABELS.to('meta')
    learner.context = Context()
    learner.parse_losses(learner.loss(images, labels))[0].backward()
    with _Counter(images.device) as passes:
        learner.probe().features(images, 2, 'teacher')
        learner.probe().logits(torch.empty_like(images, requires_grad=True), 'mix', 'teacher')
    with _Counter(images.device) as counter:
        plan, _ = learner.plan(images, labels)
    assert 20 < len(counter.names) - len(passes.names) <= policy.operators
    found = [plan.views[1].inputs, plan.views[1].masks, plan.views[1].mixture.weight, *plan.losses.values()]
    assert all(value.is_meta for value in found)


@pytest.mark.slow
@pytest.mark.parametrize(('policy', 'most'), [
    (AutoMix(), 2.95), (SAMix(), 2.95), (AutoMix(generator={'until': 0.0}), 2.26),
    (SAMix(generator={'every': 3}), 2.28),
])  # fmt: skip
def test_cost_of_a_step(policy, most):
    """A ResNet-18 of CIFAR: multiplications and operators of a whole step, against a step without mixing."""
    flops, operators = (mine / plain for mine, plain in zip(cost(policy), vanilla_cost(), strict=True))
    assert flops <= most
    assert operators <= 2.4


def cost(policy):
    learner = MixClassifier(
        {'type': 'TimmBackbone', 'model': 'resnet18', 'stem': 'cifar'}, {'type': 'LinearHead', 'num_classes': 100},
        policy, teacher={'decay': 0.999} if 'teacher' in policy.needs else None,
    ).train().to('meta')  # fmt: skip
    optimizer = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], 0.1, 0.9, weight_decay=1e-4)
    images, labels = torch.empty(100, 3, 32, 32, device='meta'), torch.zeros(100, dtype=torch.long, device='meta')
    learner.context = Context(step=2)
    fix_lam(policy, 0.5)

    def step():
        optimizer.zero_grad()
        learner.parse_losses(learner.loss(images, labels))[0].backward()
        optimizer.step()
        if learner.teacher is not None:
            learner.update_teacher()

    step()  # makes the buffers of the momentum
    with FlopCounterMode(display=False) as flops:
        step()
    with _Counter(images.device) as launches:
        step()
    return flops.get_total_flops(), len(launches.names)


@functools.cache
def vanilla_cost():
    return cost(Vanilla())


# --- arguments


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'stage': 'last'}, "stage='last'"),
        ({'stage': True}, 'stage=True'),
        ({'block': 'none'}, "block='none'"),
        ({'block': {'chanels': 3}}, "did you mean 'channels'"),
        ({'block': {'embedding': 'add'}}, "embedding='add'"),
        ({'mask_loss': {'kind': 'l3'}}, "kind='l3'"),
        ({'mask_loss': {'wieght': 1}}, "did you mean 'weight'"),
        ({'classifier': {'clean': 0}}, 'clean=0'),
        ({'classifier': {'mixed': math.inf}}, 'mixed=inf'),
        ({'classifier': {'lam_margin': 0.5}}, 'lam_margin=0.5'),
        ({'classifier': {'mask_adjust': 1.5}}, 'mask_adjust=1.5'),
        ({'classifier': {'margin': 0.1}}, 'lam_margin'),
        ({'generator': {'every': 0}}, 'every=0'),
        ({'generator': {'every': 1.5}}, 'every=1.5'),
        ({'generator': {'until': 2}}, 'until=2'),
        ({'generator': {'skip': 1.0}}, 'skip=1.0'),
        ({'generator': {'loss_weight': 0.0}}, 'until=0'),
        ({'generator': {'loss': 'plain'}}, "no entry 'loss'"),
        ({'alpha': 0}, r'AutoMix\(alpha=0\)'),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, message):
    with pytest.raises(InputError, match=message):
        AutoMix(**arguments)


def test_building_a_policy_draws_nothing():
    state = torch.get_rng_state()
    AutoMix()
    SAMix()
    assert torch.equal(torch.get_rng_state(), state)
