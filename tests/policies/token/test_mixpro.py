"""MixPro: coarse chessboards, and labels by attention as far as the prediction fits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.models import BinaryCrossEntropy, MixClassifier, SoftCrossEntropy
from openmixup.policies import Batch, Context, MixPro, Plan

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
OPTIONS = {'img_size': 16, 'patch_size': 4, 'depth': 2, 'embed_dim': 24, 'num_heads': 3}
VIT = {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': OPTIONS}


@dataclass
class Seen:
    """What a pass gives, as far as the policy looks at it."""

    attention: Tensor | None = None
    logits: Tensor | None = None


def seen(seed: int = 0, grid: tuple[int, int] = (4, 4)) -> Seen:
    rng = torch.Generator().manual_seed(seed)
    return Seen(torch.rand(6, 3, *grid, generator=rng), 3 * torch.randn(6, 5, generator=rng))


def plan(policy: MixPro, seed: int = 0, images: Tensor = IMAGES) -> Plan:
    return policy(Batch(images, LABELS), Context(seed=seed))


def fixed(lam: float, **arguments) -> MixPro:
    policy = MixPro(**arguments)
    vars(policy)['draw_lam'] = lambda count, rng: torch.full((count,), lam, dtype=torch.float64)
    return policy


@pytest.mark.parametrize('lam', [0.0, 0.01, 0.0625, 0.3, 0.5, 0.97, 1.0])
def test_ceil_of_lam_times_16_cells_stay(lam):
    for seed in range(5):
        (view,) = plan(fixed(lam), seed).views
        cells = view.masks[:, 0, ::4, ::4]
        assert torch.equal(cells.sum((1, 2)), torch.full((6,), float(math.ceil(16 * lam))))
        assert torch.equal(view.masks[:, 0], cells.repeat_interleave(4, 1).repeat_interleave(4, 2))
        torch.testing.assert_close(view.mixture.weight[:, 0], cells.mean((1, 2)))


def test_the_mean_share_is_17_of_32_by_ceil_and_a_half_by_random_rounding():
    policies = {'ceil': 17 / 32, 'random': 1 / 2}
    for rounding, mean in policies.items():
        policy = MixPro(per='sample', rounding=rounding, progressive=False)
        shares = torch.cat([plan(policy, seed, IMAGES[:, :1]).views[0].mixture.weight[:, 0] for seed in range(800)])
        assert abs(float(shares.mean()) - mean) < 0.013  # the standard error is 0.0042


def test_places_differ_from_sample_to_sample_with_one_number_of_cells():
    (view,) = plan(fixed(0.5)).views
    masks = view.masks[:, 0].flatten(1)
    assert len(masks.unique(dim=0)) == 6
    assert len(masks.sum(1).unique()) == 1


def by_hand(before, looked: Seen, smoothing: float) -> list[float]:
    """The formula of the paper, one sample after the other."""
    found = []
    for i in range(6):
        mask = before.masks[i, 0].numpy().astype(float)
        a = looked.attention[i].numpy().mean(0).astype(float)
        rows, columns = a.shape
        small = mask.reshape(rows, 16 // rows, columns, 16 // columns).mean((1, 3))
        by_attention, by_area = (small * a).sum() / a.sum(), mask.mean()
        z = looked.logits[i].numpy().astype(float)
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        target = np.full(5, smoothing / 5)
        target[LABELS[i]] += (1 - smoothing) * by_area
        target[LABELS[before.mixture.index[i, 1]]] += (1 - smoothing) * (1 - by_area)
        q = p @ target / np.linalg.norm(p) / np.linalg.norm(target)
        found.append(q * by_attention + (1 - q) * by_area)
    return found


@pytest.mark.parametrize('grid', [(4, 4), (8, 8), (2, 8), (1, 1)])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_the_formula_of_the_paper(grid, smoothing):
    policy = MixPro(per='sample', smoothing=smoothing)
    for seed in range(5):
        before, looked = plan(policy, seed), seen(seed, grid)
        done = policy.finish(before, (looked,), Context())
        lam = torch.tensor(by_hand(before.views[0], looked, smoothing)).float()
        torch.testing.assert_close(done.views[0].mixture.weight, torch.stack([lam, 1 - lam], 1))
        assert done.views[0].inputs is before.views[0].inputs


def test_each_region_has_the_attention_of_the_mixed_image():
    """Attention on the cells of one source only, and a prediction that is the target: it gets all of the weight."""
    policy = MixPro(smoothing=0.0)
    for source in (0, 1):
        before = plan(fixed(0.4))
        (view,) = before.views
        logits = view.mixture.soft(LABELS, 5).clamp_min(1e-12).log()
        looked = Seen(view.masks[:, source, ::4, ::4][:, None].expand(-1, 3, -1, -1), logits)
        done = policy.finish(before, (looked,), Context())
        torch.testing.assert_close(done.views[0].mixture.weight[:, source], torch.ones(6))


def test_a_prediction_far_from_the_target_leaves_the_area():
    policy = MixPro(smoothing=0.0)
    images, labels = IMAGES, torch.zeros(6, dtype=torch.long)
    before = policy(Batch(images, labels), Context())
    logits = torch.tensor([0.0, 50.0, 0.0, 0.0, 0.0]).expand(6, -1)
    done = policy.finish(before, (Seen(seen().attention, logits),), Context())
    torch.testing.assert_close(done.views[0].mixture.weight, before.views[0].mixture.weight)


def test_even_attention_gives_the_area():
    for seed in range(10):
        policy = MixPro(per='sample')
        before = plan(policy, seed)
        for grid in ((4, 4), (16, 16), (2, 2), (5, 3)):
            looked = Seen(torch.full((6, 2, *grid), 0.03), seen().logits)
            after = policy.finish(before, (looked,), Context()).views[0]
            if 16 % grid[0] == 16 % grid[1] == 0:
                torch.testing.assert_close(after.mixture.weight, before.views[0].mixture.weight)
            torch.testing.assert_close(after.mixture.weight.sum(1), torch.ones(6))


@pytest.mark.parametrize('detach', [True, False])
def test_whether_a_gradient_flows_through_q(detach):
    policy, looked = MixPro(detach=detach), seen()
    looked = replace(looked, logits=looked.logits.requires_grad_(), attention=looked.attention.requires_grad_())
    weight = policy.finish(plan(policy), (looked,), Context()).views[0].mixture.weight
    assert weight.requires_grad != detach
    if not detach:
        weight[:, 0].sum().backward()
        assert looked.logits.grad.abs().sum() > 0
        assert looked.attention.grad is None


@pytest.mark.parametrize('kind', ['soft', 'multilabel'])
def test_the_prediction_of_other_targets(kind):
    labels = torch.rand(6, 5, generator=torch.Generator().manual_seed(1))
    labels = labels.softmax(1) if kind == 'soft' else (labels > 0.5).float()
    policy, looked = MixPro(), seen()
    before = policy(Batch(IMAGES, labels, target=kind), Context())
    (view,) = before.views
    after = policy.finish(before, (looked,), Context()).views[0]
    predicted = looked.logits.sigmoid() if kind == 'multilabel' else looked.logits.softmax(1)
    q = torch.cosine_similarity(predicted, 0.9 * view.mixture.soft(labels) + 0.02)
    a = looked.attention.mean(1)
    by_attention = (view.masks[:, 0, ::4, ::4] * a).sum((1, 2)) / a.sum((1, 2))
    torch.testing.assert_close(after.mixture.weight[:, 0], torch.lerp(view.mixture.weight[:, 0], by_attention, q))


def test_without_attention_the_label_is_the_area_and_no_network_is_needed():
    policy = MixPro(progressive=False)
    assert policy.needs == ()
    assert policy.label == 'pixels'
    view = policy.mix(IMAGES, LABELS)
    assert view.read == ()
    torch.testing.assert_close(view.mixture.weight, view.masks.mean((2, 3)))
    made = plan(policy)
    assert policy.finish(made, (Seen(),), Context()) is made


@pytest.mark.parametrize('target', ['class', 'multilabel'])
def test_through_the_learner(target):
    """One pass, the attention of the mixed image, and a loss of each sample's own weights."""
    torch.manual_seed(0)
    loss = SoftCrossEntropy() if target == 'class' else BinaryCrossEntropy()
    policy = {'type': 'MixPro', 'per': 'sample'}
    model = MixClassifier(dict(VIT), {'type': 'LinearHead', 'num_classes': 5}, policy, loss, target=target).eval()
    model.policy.train()
    passes = []
    model.student.register_forward_hook(lambda module, args, output: passes.append(1))
    labels = LABELS if target == 'class' else torch.nn.functional.one_hot(LABELS, 5).float()
    terms = model.loss(IMAGES, labels)
    assert len(passes) == 1
    (view,) = model.last_plan.views
    output = model.student(view.inputs, read=('attention',))
    area = view.masks.mean((2, 3))
    torch.testing.assert_close(terms['loss_main'], loss(output.logits, labels, view.mixture).mean())
    a = output.attention.mean(1)
    by_attention = (view.masks[:, 0, ::4, ::4] * a).sum((1, 2)) / a.sum((1, 2))
    low, high = torch.minimum(area[:, 0], by_attention), torch.maximum(area[:, 0], by_attention)
    lam = view.mixture.weight[:, 0]
    assert bool(((lam >= low - 1e-6) & (lam <= high + 1e-6)).all())
    assert float((lam - area[:, 0]).abs().max()) > 1e-3


def test_a_regression_has_no_classes_to_trust_by():
    def built(**arguments):
        head, policy = {'type': 'LinearHead', 'num_classes': 1}, {'type': 'MixPro', **arguments}
        return MixClassifier(dict(VIT), head, policy, {'type': 'RegressionLoss'}, target='regression')

    with pytest.raises(InputError, match='MixPro trusts .* target is regression: give progressive=False'):
        built()
    assert bool(built(progressive=False).loss(IMAGES, LABELS.float())['loss_main'].isfinite())


@pytest.mark.parametrize('arguments', [
    {'cells': 1}, {'cells': 4.0}, {'cells': True}, {'rounding': 'floor'}, {'smoothing': 1.0}, {'smoothing': -0.1},
    {'smoothing': 'no'}, {'detach': 1}, {'progressive': None}, {'alpha': 0},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError, match=rf'MixPro\({next(iter(arguments))}='):
        MixPro(**arguments)
