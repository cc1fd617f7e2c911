import copy
import functools
import itertools
import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import AutoMix, Batch, Context, Mixup, Network, RandomChoice, SAMix, Vanilla
from openmixup.testing import check_policy
from openmixup.testing.devices import _Counter

NETWORK = Network(5, 32, ('stage1', 'stage2', 'stage3'), (8, 16, 32), (1, 1, 1), name='a small network')
IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
BOTH = pytest.mark.parametrize('policy', [AutoMix, SAMix])


def learner_of(policy, seed=0, **options):
    """A learner whose teacher is another network than its student, with heads that matter."""
    torch.manual_seed(seed)
    backbone = {'type': 'CifarResNet', 'depth': 8, 'width': 8}
    teacher = {'decay': 0.5} if 'teacher' in policy.needs else None
    learner = MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, policy, teacher=teacher, **options)
    networks = [learner.student] if teacher is None else [learner.student, learner.teacher.network]
    for network in networks:
        for head in network.heads.values():
            torch.nn.init.normal_(head.fc.weight)
    return learner.train()


def plan_of(learner, images=IMAGES, labels=LABELS, **context):
    learner.context = Context(**context)
    return learner.plan(images, labels)[0]


def fix_lam(policy, *values):
    """Let the policy draw these lams: of the generator branch, then of the classifier branch."""
    calls = itertools.cycle(torch.tensor(value, dtype=torch.float64).reshape(-1) for value in values)
    policy.draw_lam = lambda count, rng: next(calls).expand(count)


def opaque(learner):
    """Let masks differ from place to place and from sample to sample, as after training."""
    for i, parameter in enumerate(learner.policy.mix_block.parameters()):
        parameter.data.normal_(generator=torch.Generator().manual_seed(i))
    return learner


def gradients(learner, total):
    """Whether the student, the teacher and the block got any gradient."""
    learner.zero_grad()
    total.backward()
    parts = (learner.student, learner.teacher, learner.policy.mix_block)
    return [any(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) for part in parts]


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
