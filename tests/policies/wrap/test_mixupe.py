import dataclasses

import pytest
import torch
from torch import nn

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.models.losses import BinaryCrossEntropy, SoftCrossEntropy
from openmixup.policies import (
    CMO,
    AttentiveMix,
    Batch,
    Context,
    CutMix,
    KMixup,
    ManifoldMix,
    Mixup,
    RandomChoice,
    RecursiveMix,
    SaliencyMix,
)
from openmixup.policies.wrap.lumix import LUMix
from openmixup.policies.wrap.mixupe import SIGNS, MixupE

IMAGES = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1, 4, 2, 2])
VARIANTS = list(SIGNS)


class Output:
    def __init__(self, logits):
        self.logits = logits


def network(bias=True, smooth=True):
    """Small enough for finite differences, in double precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Linear(18, 12, bias=bias), nn.Tanh() if smooth else nn.ReLU(), nn.Linear(12, 5, bias=bias)
        return nn.Sequential(nn.Flatten(), *layers).double()


def finished(policy, net, images=IMAGES, labels=LABELS, criterion=None, target='class', seed=0):
    """The finished plan, and the loss of the inner policy."""
    criterion = criterion or SoftCrossEntropy()
    ctx = Context(seed=seed, criterion=criterion)
    plan = policy(Batch(images, labels, target=target), ctx)
    outputs = tuple(Output(net(view.inputs)) for view in plan.views)
    plan = policy.finish(plan, outputs, ctx)
    losses = [
        view.share * criterion(output.logits, plan.batch.source_labels, view.mixture).mean()
        for view, output in zip(plan.views, outputs, strict=True)
    ]
    return plan, sum(losses), sum(losses) + sum(plan.losses.values())


def q_of(policy, net, images=IMAGES, labels=LABELS):
    ctx = Context(criterion=SoftCrossEntropy())
    plan = policy(Batch(images, labels), ctx)
    clean = plan.views[-1]
    return policy.first_order(plan, clean, Output(net(clean.inputs)), ctx)


def slopes(loss, net):
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)])


@pytest.mark.parametrize('alpha', [0.2, 1.0, 2.0])
def test_constant(alpha):
    draws = torch.distributions.Beta(alpha + 1, alpha).sample((200_000,))
    c = MixupE(Mixup(alpha)).c
    assert c == pytest.approx(1 - float(draws.mean()), abs=5 * float(draws.std()) / 200_000**0.5)
    assert MixupE(Mixup(1.0)).c == pytest.approx(1 / 3)
    assert MixupE().c == pytest.approx(2 / 5)
    assert MixupE(constant=0.25).c == 0.25


def test_alpha_counts_only_where_lam_is_drawn_by_it():
    for inner in (CutMix(0.2), SaliencyMix(0.2), ManifoldMix(0.2), AttentiveMix(0.2), CMO(0.2)):
        assert MixupE(inner).c == pytest.approx(1 / 7)
    others = [AttentiveMix(0.2, lam_law=law) for law in ('beta8', 'fixed')]
    for inner in (*others, KMixup(0.2), KMixup(k=2), RecursiveMix(0.2), LUMix(), RandomChoice()):
        with pytest.raises(InputError, match=f'around {type(inner).__name__}: expected a number, or None for an inner'):
            MixupE(inner)
        assert MixupE(inner, constant=0.3).c == 0.3


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('sign', [None, 1, -1])
@pytest.mark.parametrize('eta', [1e-3, 0.3, 40.0])
def test_the_value_stays(variant, sign, eta):
    """With a large eta L' is negative for one of the signs: the size of L stays all the same."""
    plan, loss, total = finished(MixupE(CutMix(), eta, variant, sign=sign, threshold=1e9), network())
    torch.testing.assert_close(total.abs(), loss)
    assert set(plan.losses) == {'mixupe'}


@pytest.mark.parametrize('variant', VARIANTS)
def test_eta_0_is_the_inner_policy(variant):
    net = network()
    _, _, total = finished(MixupE(Mixup(), 0.0, variant), net)
    _, loss, _ = finished(Mixup(), net)
    torch.testing.assert_close(slopes(total, net), slopes(loss, net))


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('sign', [None, 1, -1])
def test_the_gradient_is_that_of_the_scaled_sum(variant, sign):
    net, eta = network(), 0.2
    policy = MixupE(Mixup(), eta, variant, threshold=0.5, sign=sign)
    _, loss, total = finished(policy, net)
    used = SIGNS[variant] if sign is None else sign
    turned = loss + used * eta / 3 * q_of(policy, net).sum() / 6
    expected = loss.detach() / turned.detach() * slopes(turned, net)
    torch.testing.assert_close(slopes(total, net), expected)
    assert float((expected - slopes(finished(Mixup(), net)[1], net)).abs().max()) > 1e-3


def test_q_is_a_directional_derivative():
    """Finite differences of z (p - y), p - y constant, from each image towards the mean image."""
    net, h = network(), 1e-5
    residual = (net(IMAGES).softmax(1) - nn.functional.one_hot(LABELS, 5)).detach()
    for mean_image, mean in (('zero', 0.0), ('batch', IMAGES.mean(0))):
        direction = mean - IMAGES
        along = [(net(IMAGES + step * direction) * residual).sum(1) for step in (h, -h)]
        expected = ((along[0] - along[1]) / (2 * h)).detach()
        q = q_of(MixupE(variant='jvp', threshold=1e9, mean_image=mean_image), net)
        torch.testing.assert_close(q.detach(), expected, rtol=1e-6, atol=1e-8)
        absolute = q_of(MixupE(variant='jvp_abs', mean_image=mean_image), net)
        torch.testing.assert_close(absolute.detach(), expected.abs(), rtol=1e-6, atol=1e-8)
    assert float(expected.min()) < 0


def test_variants_agree_on_a_network_without_biases_but_not_in_sign():
    """A network that is linear along x: z(0) = 0, so the step from x to the mean image 0 changes z by -z."""
    net = network(bias=False, smooth=False)
    slow = q_of(MixupE(variant='jvp', threshold=1e9, mean_image='zero'), net)
    fast = q_of(MixupE(variant='fast', threshold=1e9), net)
    torch.testing.assert_close(slow, fast)
    torch.testing.assert_close(slow, q_of(MixupE(variant='fast_nothreshold'), net))
    assert SIGNS['jvp'] == -SIGNS['fast']
    turned = [
        finished(MixupE(Mixup(), 0.1, variant, 1e9, mean_image='zero'), net)[2]
        for variant in ('jvp', 'fast_nothreshold')
    ]  # the same term, once added and once subtracted
    plain = slopes(finished(Mixup(), net)[1], net)
    first, second = (slopes(each, net) - plain for each in turned)
    assert float(nn.functional.cosine_similarity(first, second, 0)) < -0.9
    same = slopes(finished(MixupE(Mixup(), 0.1, 'fast_nothreshold', sign=1), net)[2], net)
    torch.testing.assert_close(same, slopes(turned[0], net))


def test_only_fast_differentiates_the_prediction():
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    y = nn.functional.one_hot(LABELS, 5)
    p = logits.softmax(1)
    for variant, expected in (('fast', logits * (y - p)), ('fast_nothreshold', logits * (y - p).detach())):
        q = q_of(MixupE(variant=variant, threshold=1e9), lambda images: logits)
        torch.testing.assert_close(q, expected.sum(1))
        ours, theirs = (torch.autograd.grad(each.sum(), logits, retain_graph=True)[0] for each in (q, expected))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('variant', VARIANTS)
def test_threshold(variant):
    net = network()
    free = q_of(MixupE(variant=variant, threshold=1e9), net).detach()
    limit = float(free.median())
    cut = q_of(MixupE(variant=variant, threshold=limit), net).detach()
    kept = free < limit if variant in ('jvp', 'fast') else torch.ones(6, dtype=torch.bool)
    torch.testing.assert_close(cut, free * kept)
    assert 0 < int((free < limit).sum()) < 6


def test_the_loss_of_the_learner_decides_what_is_expanded():
    """With sigmoids the gradient of the loss is sigmoid - y, with smoothing it is p - smoothed y."""
    hot = torch.rand(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).round()
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    policy = MixupE(variant='fast_nothreshold')
    for criterion, labels, target, slope in (
        (BinaryCrossEntropy(scale='sum'), hot, 'multilabel', logits.sigmoid() - hot),
        (SoftCrossEntropy(0.1), LABELS, 'class', logits.softmax(1) - 0.9 * nn.functional.one_hot(LABELS, 5) - 0.02),
    ):
        ctx = Context(criterion=criterion)
        plan = policy(Batch(IMAGES, labels, target=target), ctx)
        q = policy.first_order(plan, plan.views[-1], Output(logits), ctx)
        torch.testing.assert_close(q, -(logits * slope).sum(1))


def test_batch_norm_hides_a_common_scale():
    """The q of one image is felt by the others through the statistics: with m = 0 they cancel, with the mean not."""
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, eps=1e-12), nn.Flatten(), nn.Linear(36, 5)
    net = nn.Sequential(*layers).double()
    zero, batch = (
        q_of(MixupE(variant='jvp', threshold=1e9, mean_image=mean_image), net).detach()
        for mean_image in ('zero', 'batch')
    )
    assert abs(float(zero.sum())) < 1e-8 < 0.1 < float(zero.abs().sum())
    assert abs(float(batch.sum())) > 0.01


def test_losses_and_labels_of_the_inner_policy_count():
    """The value that stays is that of all the inner policy asks for, its own terms and its new weights included."""

    class Extra(Mixup):
        def finish(self, plan, outputs, ctx):
            return type(plan)(plan.batch, plan.views, self, {'extra': outputs[0].logits.square().mean()})

    net = network()
    for inner in (Extra(), LUMix(Mixup(per='sample'), 0.9, 0.1)):
        policy = MixupE(inner, 5.0, constant=0.3)
        plan, loss, total = finished(policy, net)
        whole = loss + plan.losses.get('extra', 0.0)
        torch.testing.assert_close(total, whole)
        turned = whole - 5.0 * 0.3 * q_of(policy, net).mean()
        torch.testing.assert_close(slopes(total, net), (whole / turned).detach().abs() * slopes(turned, net))


@pytest.mark.parametrize('variant', VARIANTS)
def test_trains_in_the_learner_with_one_backward_pass(variant):
    torch.manual_seed(0)
    backbone = {'type': 'CifarResNet', 'depth': 8, 'width': 4}
    policy = MixupE(CutMix(), eta=10.0, variant=variant)
    model = MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, policy).train()
    images = torch.randn(6, 3, 16, 16)
    version = images._version
    losses = model(images, LABELS, mode='loss')
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss_main'])
    total.backward()
    assert images.grad is None
    assert not images.requires_grad
    assert images._version == version
    norm = model.student.backbone.get_submodule('stage1')[0].conv1[1]
    assert int(norm.num_batches_tracked) == 2  # the clean pass counts
    gradients = [parameter.grad.clone() for parameter in model.student.parameters()]
    torch.manual_seed(0)
    plain = MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, CutMix()).train()
    plain.parse_losses(plain(images, LABELS, mode='loss'))[0].backward()
    pairs = zip(gradients, plain.student.parameters(), strict=True)
    assert any(float((ours - theirs.grad).abs().max()) > 1e-4 for ours, theirs in pairs)


@pytest.mark.parametrize('variant', ['jvp', 'jvp_abs'])
def test_a_transformer_is_differentiated_twice(variant):
    """Fused attention has no second derivative; the passes that need it compute the same without."""
    options = {'img_size': 16, 'patch_size': 8, 'depth': 2, 'embed_dim': 64, 'num_heads': 4}
    backbone = {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': options}
    torch.manual_seed(0)
    head = {'type': 'LinearHead', 'num_classes': 5}
    model = MixClassifier(backbone, head, MixupE(CutMix(), 10.0, variant, threshold=1e9)).eval()
    model.policy.train()
    images = torch.randn(6, 3, 16, 16)
    plan, context = model.plan(images, LABELS)
    mixed, clean = (output.logits for output in model.run_views(plan))
    torch.testing.assert_close(mixed, model(plan.views[0].inputs))
    torch.testing.assert_close(clean, model(images))
    joined = dataclasses.replace(plan, join=True)
    torch.testing.assert_close(torch.cat([o.logits for o in model.run_views(joined)]), torch.cat([mixed, clean]))
    model.parse_losses(model(images, LABELS, mode='loss'))[0].backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.student.parameters() if p.grad is not None)


@pytest.mark.parametrize(('options', 'match'), [
    ({'variant': 'jpv'}, "did you mean 'jvp'"),
    ({'mean_image': 'data'}, "'batch' or 'zero'"),
    ({'sign': 0}, '1, -1 or None'),
    ({'eta': -1.0}, 'at least 0'),
    ({'eta': float('nan')}, 'expected a number'),
    ({'threshold': None}, 'expected a number'),
    ({'threshold': -float('inf')}, 'expected a number'),
    ({'constant': 'a'}, 'expected a number, or None'),
    ({'constant': float('inf')}, 'constant=inf'),
    ({'eta': float('inf')}, 'eta=inf'),
    ({'variant': ['jvp']}, 'is unknown'),
    ({'policy': RandomChoice()}, 'around RandomChoice'),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        MixupE(**options)
    assert MixupE(RandomChoice(), constant=0.3).c == 0.3
    assert MixupE(threshold=float('inf')).threshold == float('inf')  # leaves no sample out


def test_without_a_learner_it_says_so():
    policy = MixupE()
    plan = policy(Batch(IMAGES, LABELS), Context())
    with pytest.raises(InputError, match='use it in a MixClassifier'):
        policy.finish(plan, (Output(torch.randn(6, 5)),) * 2, Context())
    with pytest.raises(InputError, match='makes 2 views'):
        MixupE().mix(IMAGES, LABELS)
