"""Manifold Mixup: Mixup at layer 0, the same blend at any hidden layer, in the layouts of all networks."""

from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest
import torch
from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.models import Backbone, MixClassifier
from openmixup.policies import Batch, Context, ManifoldMix, Mixup, Tap
from openmixup.policies.feature.manifoldmix import blended
from openmixup.registry import MODELS

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
TOKENS = {'img_size': 16, 'patch_size': 4, 'depth': 3, 'embed_dim': 24, 'num_heads': 3}
WINDOWS = {
    'img_size': 16, 'patch_size': 2, 'window_size': 4, 'depths': (1, 1), 'embed_dim': 12, 'num_heads': (2, 2),
}  # fmt: skip
BACKBONES = {
    'resnet18': {'type': 'TimmBackbone', 'model': 'resnet18', 'stem': 'cifar'},
    'cifar_resnet': {'type': 'CifarResNet', 'depth': 8, 'width': 4},
    'vit': {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': TOKENS},
    'swin': {'type': 'TimmBackbone', 'model': 'swin_tiny_patch4_window7_224', 'options': WINDOWS},
}


@MODELS.register_module(force=True)
class AffineBackbone(Backbone):
    """Affine as far as ``second``: convolutions and a BatchNorm that is in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.stages = 5, ('first', 'second')
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.second = nn.Sequential(nn.Conv2d(4, 5, 3, 2), nn.BatchNorm2d(5))
        for norm in (self.first[1], self.second[1]):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.bias)

    def features(self, images: Tensor) -> Tensor:
        return self.second(self.first(images)).relu()

    def pool(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


def learner(backbone: dict, policy: ManifoldMix) -> MixClassifier:
    torch.manual_seed(0)
    model = MixClassifier(dict(backbone), {'type': 'LinearHead', 'num_classes': 5}, policy)
    for parameter in model.student.heads.parameters():
        parameter.data.mul_(100)  # so that the logits tell samples apart
    return model


def assert_alike(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def only(layer: int, **arguments) -> ManifoldMix:
    return ManifoldMix(layers=(layer, layer + 1), **arguments)


def plan(policy, seed=0, rank=0, images=IMAGES):
    return policy(Batch(images, LABELS), Context(seed=seed, rank=rank))


def view(policy, seed=0, rank=0):
    return plan(policy, seed, rank).views[0]


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('pairing', ['permutation', 'derangement', 'flip'])
@pytest.mark.parametrize('alpha', [0.2, 1.0])
def test_layer_0_is_mixup_bit_for_bit(alpha, pairing, per):
    for seed in range(5):
        for context in (lambda seed=seed: Context(seed=seed), lambda: Context(generator=torch.Generator())):
            ours, mixups = (
                policy(Batch(IMAGES, LABELS), context()).views[0]
                for policy in (only(0, alpha=alpha, per=per, pairing=pairing), Mixup(alpha, per, pairing))
            )
            assert torch.equal(ours.inputs, mixups.inputs)
            assert torch.equal(ours.mixture.index, mixups.mixture.index)
            assert torch.equal(ours.mixture.weight, mixups.mixture.weight)
            assert torch.equal(ours.masks, mixups.masks)
            assert ours.tap is None


def test_partners_and_lam_do_not_depend_on_the_layer():
    for seed in range(10):
        pairs = [view(only(layer), seed).mixture for layer in range(3)]
        for pair in pairs[1:]:
            assert torch.equal(pair.index, pairs[0].index)
            assert torch.equal(pair.weight, pairs[0].weight)


@pytest.mark.parametrize('layers', [(0, 3), (1, 3), (2, 3)])
def test_layers_of_the_half_open_range_are_drawn_alike(layers):
    views = [view(ManifoldMix(layers=layers), seed) for seed in range(600)]
    found = Counter(0 if v.tap is None else v.tap.stage + 1 for v in views)
    assert sorted(found) == list(range(*layers))
    share = 1 / len(found)
    for hits in found.values():
        assert abs(hits - share * 600) <= 5 * sqrt(share * (1 - share) * 600)


def test_all_ranks_draw_the_same_layer_but_pairs_of_their_own():
    same = []
    for seed in range(20):
        first, second = (view(ManifoldMix(), seed, rank) for rank in range(2))
        assert (first.tap and first.tap.stage) == (second.tap and second.tap.stage)
        same.append(torch.equal(first.mixture.index, second.mixture.index))
    assert not all(same)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_an_affine_network_gives_the_same_logits_for_each_layer_up_to_its_end(per):
    """Weighted sums with weights that sum to one pass through affine layers."""
    logits = []
    for layer in range(3):
        model = learner({'type': 'AffineBackbone'}, only(layer, per=per)).eval()
        model.policy.train()
        made, _ = model.plan(IMAGES, LABELS)
        logits.append(model.run_views(made)[0].logits)
    for other in logits[1:]:
        assert_alike(other, logits[0])
    plain = model.student(IMAGES).logits
    assert float((logits[0] - plain).detach().abs().max()) > 0.05


@pytest.mark.parametrize('layer', [0, 1, 2])
@pytest.mark.parametrize('name', BACKBONES)
def test_with_all_weight_on_the_own_image_the_pass_is_the_plain_one(name, layer):
    policy = only(layer)
    policy.draw_lam = lambda count, rng: torch.ones(count, dtype=torch.float64)
    model = learner(BACKBONES[name], policy).eval()
    model.policy.train()
    made, _ = model.plan(IMAGES, LABELS)
    assert_alike(model.run_views(made)[0].logits, model.student(IMAGES).logits)


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('name', BACKBONES)
def test_the_output_of_a_stage_is_blended_by_hand(name, per):
    """lam * own + (1 - lam) * partner, at the stage that was drawn and nowhere else."""
    model = learner(BACKBONES[name], only(2, per=per)).eval()
    model.policy.train()
    made, _ = model.plan(IMAGES, LABELS)
    (ours,) = made.views
    own, partner = ours.mixture.weight[:, 0], ours.mixture.index[:, 1]

    def by_hand(hidden: Tensor) -> Tensor:
        lam = own.view(-1, *[1] * (hidden.ndim - 1))
        return lam * hidden + (1 - lam) * hidden[partner]

    expected = model.student(IMAGES, tap=Tap(1, by_hand)).logits
    found = model.run_views(made)[0].logits
    assert_alike(found, expected)
    assert float((found - model.student(IMAGES).logits).detach().abs().max()) > 0.05
    assert ours.inputs is IMAGES
    assert ours.masks is None
    assert own.unique().numel() == (1 if per == 'batch' else len(IMAGES))


@pytest.mark.parametrize('name', BACKBONES)
def test_both_samples_get_gradient(name):
    model = learner(BACKBONES[name], only(1, pairing='flip')).eval()
    model.policy.train()
    images = IMAGES.clone().requires_grad_(True)
    made, _ = model.plan(images, LABELS)
    (gradient,) = torch.autograd.grad(model.run_views(made)[0].logits[0].sum(), images)
    reached = gradient.abs().amax((1, 2, 3)) > 0
    assert reached.tolist() == [True, False, False, False, False, True]


@pytest.mark.parametrize('shape', [(4, 5, 3, 2), (4, 7, 6), (4, 9)])
def test_gradient_of_a_blend(shape):
    mixture = view(only(1)).mixture
    hidden = torch.randn(6, *shape[1:], dtype=torch.float64, requires_grad=True)
    seen = torch.randn(6, *shape[1:], dtype=torch.float64)
    (found,) = torch.autograd.grad(blended(mixture, hidden), hidden, seen)
    lam = mixture.weight.double().view(6, 2, *[1] * (len(shape) - 1))
    expected = (lam[:, 0] * seen).index_add(0, mixture.index[:, 1], lam[:, 1] * seen)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_blend_keeps_type_and_memory_format(dtype):
    mixture = view(only(1)).mixture
    hidden = torch.randn(6, 8, 5, 4).to(dtype)
    expected = blended(mixture, hidden)
    last = blended(mixture, hidden.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert expected.is_contiguous()
    assert last.dtype == expected.dtype == dtype
    assert torch.equal(last, expected)


def test_nothing_is_read_from_the_device():
    images, labels = IMAGES.to('meta'), LABELS.to('meta')
    for seed in range(6):
        ours = ManifoldMix()(Batch(images, labels), Context(seed=seed)).views[0]
        assert ours.mixture.index.is_meta
        if ours.tap is not None:
            assert ours.tap.function(torch.empty(6, 4, 5, 5, device='meta')).shape == (6, 4, 5, 5)


def test_it_trains_through_the_learner():
    model = learner(BACKBONES['cifar_resnet'], ManifoldMix(layers=(0, 4))).train()
    for seed in range(8):
        model.context = Context(seed=seed)
        model.zero_grad()
        model.loss(IMAGES, LABELS)['loss_main'].backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_in_eval_mode_nothing_is_mixed():
    ours = view(only(1).eval())
    assert ours.tap is None
    assert ours.inputs is IMAGES


@pytest.mark.parametrize('layers', [(3, 3), (-1, 2), (0,), (0, 1, 2), (0, 1.5), (False, True), 3, '03'])
def test_wrong_layers_are_refused(layers):
    with pytest.raises(InputError, match='expected two whole numbers'):
        ManifoldMix(layers=layers)


def test_layers_that_the_network_does_not_have_are_refused_when_it_is_built():
    match = r'draws layers up to 4, but CifarResNet has 3 hidden stages \(stage1, stage2, stage3\): end the range at 4'
    with pytest.raises(InputError, match=match):
        learner(BACKBONES['cifar_resnet'], ManifoldMix(layers=(0, 5)))
    learner(BACKBONES['cifar_resnet'], ManifoldMix(layers=[3, 4]))
