"""AlignMixup: the formula by hand, what alignment can and cannot do, coins, layouts, gradients."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import AlignMix, Batch, Context, Mixture, Mixup, Network
from openmixup.policies.feature.alignmix import cells
from openmixup.policies.feature.sinkhorn import plain_plan, similarity

SIZE = 6
IMAGES = torch.randn(SIZE, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
NETWORK = Network(5, 8, ('early', 'late'), (4, 8), (1, -1), name='a small one')
TOKENS = {'img_size': 16, 'patch_size': 4, 'depth': 2, 'embed_dim': 24, 'num_heads': 3}
WINDOWS = {
    'img_size': 16, 'patch_size': 2, 'window_size': 4, 'depths': (1, 1), 'embed_dim': 12, 'num_heads': (2, 2),
}  # fmt: skip
BACKBONES = {
    'resnet18': {'type': 'TimmBackbone', 'model': 'resnet18', 'stem': 'cifar'},
    'cifar_resnet': {'type': 'CifarResNet', 'depth': 8, 'width': 4},
    'vit': {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': TOKENS},
    'swin': {'type': 'TimmBackbone', 'model': 'swin_tiny_patch4_window7_224', 'options': WINDOWS},
}
LAYOUTS = {
    'channels first': (1, (SIZE, 8, 3, 4)),
    'channels last': (-1, (SIZE, 3, 4, 8)),
    'tokens': (-1, (SIZE, 12, 8)),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bound(**arguments) -> AlignMix:
    policy = AlignMix(**arguments)
    policy.bind(NETWORK)
    return policy


def view(policy, seed=0, rank=0):
    return policy(Batch(IMAGES, LABELS), Context(seed=seed, rank=rank)).views[0]


def mixture(*lam: float, shift: int = 1) -> Mixture:
    own = torch.tensor(lam).expand(SIZE)
    return Mixture(torch.stack([torch.arange(SIZE), torch.arange(SIZE).roll(shift)], 1), torch.stack([own, 1 - own], 1))


def learner(backbone: dict, policy: AlignMix) -> MixClassifier:
    torch.manual_seed(0)
    return MixClassifier(dict(backbone), {'type': 'LinearHead', 'num_classes': 5}, policy)


def assignment(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """(n, n) float64, rows are the cells of a (C, n) and columns those of b: plain turns until nothing changes."""
    cost = (a.double()[:, :, None] - b.double()[:, None]).square().sum(0)
    column = torch.zeros_like(cost[:1])
    for _ in range(3000):
        row = -torch.logsumexp(column - cost / eps, 1, keepdim=True)
        column = -torch.logsumexp(row - cost / eps, 0, keepdim=True)
    return (row + column - cost / eps).exp()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('onto_own', [True, False])
@pytest.mark.parametrize('lam', [(0.3,), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)], ids=['batch', 'sample'])
def test_the_formula_of_the_paper(lam, onto_own, layout):
    """With features A and B as channels x cells: lam A + (1 - lam) B R^T, or lam A R + (1 - lam) B."""
    channel_dim, shape = LAYOUTS[layout]
    features, pairs = 0.2 * noise(*shape).relu(), mixture(*lam)
    found = AlignMix(iterations=400).aligned(features, pairs, onto_own, channel_dim)
    assert found.shape == features.shape
    matrices = cells(features, channel_dim).mT.double()
    for i, (_, j) in enumerate(pairs.index.tolist()):
        share, a, b = pairs.weight[i, 0].double(), matrices[i], matrices[j]
        plan = assignment(a, b, 0.1)
        expected = share * a + (1 - share) * b @ plan.T if onto_own else share * a @ plan + (1 - share) * b
        torch.testing.assert_close(cells(found, channel_dim).mT[i].double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('onto_own', [True, False])
def test_by_default_it_is_the_plan_of_the_authors(onto_own):
    features, pairs = 2 * noise(SIZE, 8, 3, 4).relu(), mixture(0.3)
    found = AlignMix().aligned(features, pairs, onto_own, 1)
    own, partner = features.flatten(2), features.flatten(2)[pairs.index[:, 1]]
    still, moving = (own, partner) if onto_own else (partner, own)
    plan = plain_plan(similarity(still.mT, moving.mT), 0.1, 100, rows_first=onto_own)
    moved = torch.einsum('nij,ncj->nci', plan, moving)
    expected = 0.3 * own + 0.7 * moved if onto_own else 0.3 * moved + 0.7 * partner
    torch.testing.assert_close(found.flatten(2), expected)
    annealed = AlignMix(iterations=100, annealing=True).aligned(features, pairs, onto_own, 1)
    assert float((found - annealed).abs().max()) > 0.05


@pytest.mark.parametrize('annealing', [True, False])
def test_equal_features_come_back(annealing):
    features = noise(1, 64, 4, 4).expand(SIZE, -1, -1, -1).contiguous()
    for onto_own in (True, False):
        found = AlignMix(annealing=annealing).aligned(features, mixture(0.4), onto_own, 1)
        torch.testing.assert_close(found, features, rtol=0, atol=1e-3)


def test_a_partner_with_its_cells_in_another_order_is_put_right():
    shuffled = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    features = noise(1, 64, 16).expand(SIZE, -1, -1).clone()
    features[1::2] = features[1::2][..., shuffled]
    features = features.view(SIZE, 64, 4, 4)
    partner = features.roll(1, 0)
    assert float((features - partner).abs().max()) > 1
    found = AlignMix().aligned(features, mixture(0.4), True, 1)
    torch.testing.assert_close(found, features, rtol=0, atol=1e-3)
    found = AlignMix().aligned(features, mixture(0.4), False, 1)
    torch.testing.assert_close(found, partner, rtol=0, atol=1e-3)


@pytest.mark.parametrize('onto_own', [True, False])
def test_an_exact_plan_leaves_the_mean_over_the_cells_as_a_plain_blend_has_it(onto_own):
    """Why annealing is not the default: before mean pooling only the error of the plan makes a difference."""
    features, pairs = noise(SIZE, 512, 4, 4).relu(), mixture(0.3)
    means = features.mean((2, 3))
    apart = float((means - means.roll(1, 0)).norm(dim=1).mean())
    moved = {}
    for annealing in (True, False):
        policy = AlignMix(iterations=100, annealing=annealing)
        found = policy.aligned(features, pairs, onto_own, 1).mean((2, 3))
        moved[annealing] = float((found - pairs.of(means)).norm(dim=1).mean()) / apart / (0.7 if onto_own else 0.3)
    assert moved[True] < 0.01
    assert moved[False] > 0.1


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('onto_own', [True, False])
def test_gradient_flows_through_both_features_and_not_through_the_plan(onto_own, layout):
    channel_dim, shape = LAYOUTS[layout]
    features = (0.3 * noise(*shape)).requires_grad_(True)
    pairs, seen = mixture(0.3), noise(*shape, seed=1)
    (found,) = torch.autograd.grad(AlignMix().aligned(features, pairs, onto_own, channel_dim), features, seen)
    own = cells(features, channel_dim)
    still, moving = (own, own[pairs.index[:, 1]]) if onto_own else (own[pairs.index[:, 1]], own)
    share = 0.3 if onto_own else 0.7
    constant = plain_plan(similarity(still.detach(), moving.detach()), 0.1, 100, rows_first=onto_own)
    mixed = share * still + (1 - share) * constant @ moving
    (expected,) = torch.autograd.grad(mixed, features, cells(seen, channel_dim))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_gradient_reaches_both_images_of_a_pair():
    model = learner(BACKBONES['cifar_resnet'], AlignMix(align_prob=1, pairing='flip')).eval()
    model.policy.train()
    images = IMAGES.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.run_views(model.plan(images, LABELS)[0])[0].logits[0].sum(), images)
    assert (gradient.abs().amax((1, 2, 3)) > 0).tolist() == [True, False, False, False, False, True]


def test_coins_are_fair_and_all_ranks_see_the_same():
    count, policy = 600, bound()
    views = [view(policy, seed) for seed in range(count)]
    aligned = [v for v in views if v.tap is not None]
    onto_own = [v for v in aligned if v.tap.function.keywords['onto_own']]
    assert abs(len(aligned) - count / 2) <= 5 * sqrt(count / 4)
    assert abs(len(onto_own) - len(aligned) / 2) <= 5 * sqrt(len(aligned) / 4)
    always = [view(bound(align_prob=1), seed).tap.function.keywords['onto_own'] for seed in range(count)]
    assert abs(sum(always) - count / 2) <= 5 * sqrt(count / 4)
    for seed in range(20):
        other = view(policy, seed, rank=1)
        assert (other.tap is None) == (views[seed].tap is None)
        if other.tap is not None:
            assert other.tap.function.keywords['onto_own'] == views[seed].tap.function.keywords['onto_own']
    assert abs(sum(view(bound(align_prob=0.2), seed).tap is not None for seed in range(count)) - 120) <= 5 * sqrt(96)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_a_batch_that_is_not_aligned_is_mixups_bit_for_bit(per):
    ours, mixups = AlignMix(align_prob=0, per=per), Mixup(2.0, per)
    ours.bind(NETWORK)
    for seed in range(5):
        first, second = view(ours, seed), view(mixups, seed)
        assert torch.equal(first.inputs, second.inputs)
        assert torch.equal(first.masks, second.masks)
        aligned = view(bound(align_prob=1, per=per), seed)
        for mixed in (first, aligned):
            assert torch.equal(mixed.mixture.index, second.mixture.index)
            assert torch.equal(mixed.mixture.weight, second.mixture.weight)


def test_an_aligned_batch_leaves_the_pixels_alone():
    ours = view(bound(align_prob=1))
    assert ours.inputs is IMAGES
    assert ours.masks is None
    assert view(bound(align_prob=1).eval()).tap is None


@pytest.mark.parametrize(('stage', 'expected', 'channel_dim'), [(-1, 1, -1), (0, 0, 1), (-2, 0, 1)])
def test_the_stage_is_looked_up_in_the_network(stage, expected, channel_dim):
    tap = view(bound(stage=stage, align_prob=1)).tap
    assert tap.stage == expected
    assert tap.function.keywords['channel_dim'] == channel_dim


@pytest.mark.parametrize('name', BACKBONES)
def test_the_last_stage_of_a_network_is_aligned(name):
    """Seen from the logits: with all weight on the image that stays, the pass is the plain one of that image."""
    policy = AlignMix(align_prob=1, pairing='flip')
    model = learner(BACKBONES[name], policy).eval()
    policy.train()
    plain = model.student(IMAGES).logits
    shapes = []
    kept = policy.aligned
    policy.aligned = lambda features, **keywords: shapes.append(features.shape) or kept(features, **keywords)
    for lam, onto_own, expected in ((1.0, True, plain), (0.0, False, plain.flip(0))):
        policy.draw_lam = lambda count, rng, lam=lam: torch.full((count,), lam, dtype=torch.float64)
        seeds = [s for s in range(20) if view(policy, s).tap.function.keywords['onto_own'] == onto_own]
        model.context = Context(seed=seeds[0])
        found = model.run_views(model.plan(IMAGES, LABELS)[0])[0].logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert shapes == [shapes[0]] * 2
    assert shapes[0][model.student.backbone.channel_dims[-1]] == model.student.backbone.channels[-1]


@pytest.mark.parametrize('annealing', [True, False])
def test_a_batch_of_one(annealing):
    policy = bound(align_prob=1, stage=0, annealing=annealing)
    (alone,) = policy.plan(Batch(IMAGES[:1], LABELS[:1]), Context()).views
    features = noise(1, 4, 3, 5)
    torch.testing.assert_close(alone.tap.function(features), features, rtol=0, atol=1e-2)
    torch.testing.assert_close(alone.tap.function(noise(1, 4, 1, 1)), noise(1, 4, 1, 1))


@pytest.mark.parametrize('annealing', [True, False])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_autocast_and_small_types_do_not_reach_the_plan(layout, annealing):
    channel_dim, shape = LAYOUTS[layout]
    policy, features = AlignMix(annealing=annealing), noise(*shape).bfloat16()
    expected = policy.aligned(features.float(), mixture(0.3), True, channel_dim)
    with torch.autocast('cpu', torch.bfloat16):
        whole = policy.aligned(features.float(), mixture(0.3), True, channel_dim)
        half = policy.aligned(features, mixture(0.3), True, channel_dim)
    assert torch.equal(whole, expected)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize('annealing', [True, False])
def test_memory_format_makes_no_difference_and_nothing_is_read(annealing):
    policy, features = AlignMix(annealing=annealing), noise(SIZE, 8, 3, 4)
    for onto_own in (True, False):
        expected = policy.aligned(features, mixture(0.3), onto_own, 1)
        last = features.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(policy.aligned(last, mixture(0.3), onto_own, 1), expected)
        pairs = Mixture(*(t.to('meta') for t in (mixture(0.3).index, mixture(0.3).weight)))
        assert policy.aligned(features.to('meta'), pairs, onto_own, 1).shape == features.shape


def test_features_are_not_changed():
    features = noise(SIZE, 8, 3, 4)
    AlignMix().aligned(features, mixture(0.3), True, 1)
    assert torch.equal(features, noise(SIZE, 8, 3, 4))


def test_it_trains_through_the_learner():
    model = learner(BACKBONES['cifar_resnet'], AlignMix()).train()
    for seed in range(6):
        model.context = Context(seed=seed)
        model.zero_grad()
        model.loss(IMAGES, LABELS)['loss_main'].backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_without_a_network_it_says_so():
    with pytest.raises(InputError, match='does not know its network'):
        view(AlignMix())
    with pytest.raises(InputError, match='AlignMix asks for stage 2 of a small one, which has the stages 0 early'):
        bound(stage=2)


@pytest.mark.parametrize('arguments', [
    {'eps': 0}, {'eps': float('nan')}, {'eps': True}, {'iterations': 0}, {'iterations': 5.0}, {'stage': None},
    {'align_prob': 1.1}, {'align_prob': '1'}, {'annealing': 1}, {'alpha': 0}, {'per': 'pixel'},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(InputError, match=rf'AlignMix\({name}='):
        AlignMix(**arguments)
