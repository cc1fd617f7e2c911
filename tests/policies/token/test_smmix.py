"""SMMix: the most attended square of the partner over the least attended one, and the losses beside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.errors import InputError
from openmixup.models import BinaryCrossEntropy, MixClassifier, SoftCrossEntropy
from openmixup.policies import Batch, Context, Mixture, Network, SMMix
from openmixup.policies.token.smmix import consistency_loss, window_means

LABELS = torch.tensor([0, 1, 2, 3, 4])
OPTIONS = {'img_size': 32, 'patch_size': 4, 'depth': 2, 'embed_dim': 24, 'num_heads': 3}
VIT = {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': OPTIONS}
PLAIN = {'fine': 0.0, 'consistency': 0.0}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Seen:
    """What a pass gives, as far as the policy looks at it."""

    received: Tensor | None = None
    logits: Tensor | None = None
    features: Tensor | None = None


class Probe:
    """A network whose answer the test writes down."""

    def __init__(self, answer: Seen) -> None:
        self.answer, self.asked = answer, 0

    def look(self, images: Tensor, read: tuple[str, ...]) -> Seen:
        assert read == ('received',)
        self.asked += 1
        return self.answer


def plan(policy: SMMix, received: Tensor, images: Tensor, seed: int = 0, logits: Tensor | None = None):
    context = Context(seed=seed, probe=Probe(Seen(received, logits)))
    return policy(Batch(images, LABELS[: len(images)]), context), context


def windows(scores: np.ndarray, side: int) -> dict[tuple[int, int], float]:
    rows, columns = scores.shape
    return {
        (i, j): float(scores[i : i + side, j : j + side].mean())
        for i in range(rows - side + 1)
        for j in range(columns - side + 1)
    }


@pytest.mark.parametrize(('grid', 'patch'), [((14, 14), (2, 2)), ((6, 10), (3, 3)), ((4, 4), (5, 2)), ((3, 3), (1, 1))])
def test_the_most_attended_square_covers_the_least_attended_one(grid, patch):
    size = grid[0] * patch[0], grid[1] * patch[1]
    images = noise(5, 3, *size)
    for seed in range(8):
        received = torch.rand(5, 2, *grid, generator=torch.Generator().manual_seed(seed))
        made, _ = plan(SMMix(**PLAIN), received, images, seed)
        (view,) = made.views
        side = round(float((1 - view.mixture.weight[0, 0]) * grid[0] * grid[1]) ** 0.5)
        assert 1 <= side <= 0.75 * min(grid)
        scores = received.mean(1).double().numpy()
        for i in range(5):
            assert view.mixture.index[i].tolist() == [i, 4 - i]
            target, source = windows(scores[i], side), windows(scores[4 - i], side)
            (top, left), (row, column) = min(target, key=target.get), max(source, key=source.get)
            expected = images[i].clone()
            height, width = side * patch[0], side * patch[1]
            top, left, row, column = top * patch[0], left * patch[1], row * patch[0], column * patch[1]
            expected[:, top : top + height, left : left + width] = images[
                4 - i, :, row : row + height, column : column + width
            ]
            torch.testing.assert_close(view.inputs[i], expected)
            own = torch.ones(size)
            own[top : top + height, left : left + width] = 0
            torch.testing.assert_close(view.masks[i], torch.stack([own, 1 - own]))
            torch.testing.assert_close(view.mixture.weight[i, 0], own.mean())


def test_lam_takes_eight_values_on_14_patches():
    found, images = set(), noise(2, 1, 14, 14)
    for seed in range(120):
        made, _ = plan(SMMix(**PLAIN), torch.rand(2, 1, 14, 14), images, seed)
        weight = made.views[0].mixture.weight
        assert torch.equal(weight[0], weight[1])
        found.add(round(float(weight[0, 0]) * 196))
    assert found == {196 - side**2 for side in range(3, 11)}


@pytest.mark.parametrize(('sides', 'shorter', 'expected'), [
    ((0.25, 0.75), 14, range(3, 11)), ((0.25, 0.75), 4, range(1, 4)), ((0.5, 0.5), 14, [7]), ((0.01, 0.02), 14, [1]),
    ((0.3, 0.99), 7, range(2, 7)),
])  # fmt: skip
def test_sides_follow_the_grid(sides, shorter, expected):
    rng = torch.Generator().manual_seed(0)
    assert {SMMix(sides)._side(shorter, rng) for _ in range(200)} == set(expected)


def test_window_means_are_those_of_the_squares():
    scores = noise(2, 4, 6)
    expected = [list(windows(each, 3).values()) for each in scores.numpy()]
    torch.testing.assert_close(window_means(scores, 3), torch.tensor(expected))


def test_consistency_vanishes_for_the_mixture_of_the_logits_up_to_a_constant():
    clean, index = noise(4, 5), torch.tensor([[0, 3], [1, 2], [2, 1], [3, 0]])
    lam = torch.tensor([0.3, 0.9, 0.5, 1.0])
    mixture, batch = Mixture(index, torch.stack([lam, 1 - lam], 1)), Batch(noise(4, 1, 2, 2), LABELS[:4])
    z = lam[:, None] * clean + (1 - lam[:, None]) * clean.flip(0)
    shift = noise(4, 1, seed=1)
    torch.testing.assert_close(consistency_loss(z + shift, clean, mixture, batch), torch.tensor(0.0), atol=1e-6, rtol=0)
    other = noise(4, 5, seed=2).requires_grad_()
    clean.requires_grad_()
    loss = consistency_loss(other, clean, mixture, batch)
    p, q = z.softmax(1).detach().numpy(), other.softmax(1).detach().numpy()
    assert float(loss.detach()) == pytest.approx(float((p * np.log(p / q)).sum(1).mean()), rel=1e-5)
    loss.backward()
    assert clean.grad is None
    torch.testing.assert_close(other.grad, (torch.tensor(q) - torch.tensor(p)) / 4)


def test_consistency_of_multi_hot_labels_is_that_of_each_class():
    clean, index = noise(2, 3), torch.tensor([[0, 1], [1, 0]])
    mixture = Mixture(index, torch.full((2, 2), 0.5))
    batch = Batch(noise(2, 1, 2, 2), torch.ones(2, 3), target='multilabel')
    z = clean.mean(0).expand(2, -1)
    torch.testing.assert_close(consistency_loss(z, clean, mixture, batch), torch.tensor(0.0), atol=1e-6, rtol=0)
    p, q = z.sigmoid().numpy(), (z + 1).sigmoid().numpy()
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert float(consistency_loss(z + 1, clean, mixture, batch)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_each_region_is_classified_as_its_image(smoothing):
    policy, images = SMMix(consistency=0.0), noise(5, 3, 12, 12)
    policy.bind(Network(5, 7, (), (), (), map_channels=7))
    with torch.no_grad():
        policy.fine_head.weight.normal_(generator=torch.Generator().manual_seed(3))
    made, context = plan(policy, torch.rand(5, 2, 6, 6), images)
    (view,) = made.views
    assert view.read == ('features',)
    features = noise(5, 7, 6, 6).requires_grad_()
    context = Context(criterion=SoftCrossEntropy(smoothing), probe=context.probe)
    done = policy.finish(made, (Seen(features=features, logits=noise(5, 5)),), context)
    expected = 0.0
    for i in range(5):
        for k, label in enumerate((LABELS[i], LABELS[4 - i])):
            patches = view.masks[i, k, ::2, ::2].bool()
            logits = policy.fine_head(features[i][:, patches].mean(1))
            expected = expected + F.cross_entropy(logits, label, label_smoothing=smoothing) / 10
    assert set(done.losses) == {'fine'}
    torch.testing.assert_close(done.losses['fine'], expected)
    torch.testing.assert_close(done.views[0].mixture.weight, view.mixture.weight)
    (gradient,) = torch.autograd.grad(done.losses['fine'], features)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize('weight', [1.0, 0.25])
def test_through_the_learner(weight):
    """One clean pass without gradient in eval mode, and one that is trained: L_cls + L_fine + L_con."""
    torch.manual_seed(0)
    policy = {'type': 'SMMix', 'fine': weight, 'consistency': weight}
    model = MixClassifier({**VIT, 'drop_path': 0.5}, {'type': 'LinearHead', 'num_classes': 5}, policy).train()
    images, passes = noise(5, 3, 32, 32), []
    blocks = model.student.backbone.net.blocks
    hook = blocks[0].register_forward_hook(lambda m, a, out: passes.append((m.training, out.requires_grad)))
    terms = model.loss(images, LABELS)
    hook.remove()
    assert passes == [(False, False), (True, True)]
    assert set(terms) == {'loss_main', 'loss_fine_term', 'loss_consistency_term', 'agreement'}
    total, _ = model.parse_losses(terms)
    torch.testing.assert_close(total, terms['loss_main'] + terms['loss_fine_term'] + terms['loss_consistency_term'])
    total.backward()
    assert model.policy.fine_head.weight.grad is not None
    model.eval()
    model.policy.train()
    terms = model.loss(images, LABELS)
    (view,) = model.last_plan.views
    z, clean = model(view.inputs), model(images)
    lam = view.mixture.weight[:, :1]
    wanted = (lam * clean + (1 - lam) * clean.flip(0)).softmax(1)
    expected = (wanted * (wanted.log() - z.log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(terms['loss_consistency_term'], weight * expected)
    tokens = model.student.backbone.features(view.inputs)[:, 1:]
    one = view.masks[:, :, ::4, ::4].flatten(2)
    vectors = torch.einsum('nkt,ntc->nkc', one / one.sum(2, keepdim=True), tokens)
    logits = model.policy.fine_head(vectors)
    fine = (F.cross_entropy(logits[:, 0], LABELS) + F.cross_entropy(logits[:, 1], LABELS.flip(0))) / 2
    torch.testing.assert_close(terms['loss_fine_term'], weight * fine)


def test_the_score_is_the_attention_that_patches_give_and_not_that_of_the_class_token():
    torch.manual_seed(0)
    model = MixClassifier(VIT, {'type': 'LinearHead', 'num_classes': 5}, {'type': 'SMMix', **PLAIN}).eval()
    with torch.no_grad():
        model.student.backbone.net.blocks[-1].attn.qkv.weight.mul_(20)
    model.policy.train()
    images, maps = noise(5, 3, 32, 32), []
    made, _ = model.plan(images, LABELS)
    last = model.student.backbone.net.blocks[-1].attn
    last.fused_attn = False
    last.attn_drop.register_forward_hook(lambda m, i, out: maps.append(out))
    model(images)
    scores = maps[0][:, :, 1:, 1:].mean((1, 2)).unflatten(1, (8, 8)).detach().double().numpy()
    (view,) = made.views
    side = round(float(1 - view.mixture.weight[0, 0]) ** 0.5 * 8)
    for i in range(5):
        covered = windows(scores[i], side)
        top, left = min(covered, key=covered.get)
        own = torch.ones(8, 8)
        own[top : top + side, left : left + side] = 0
        assert torch.equal(view.masks[i, 0, ::4, ::4], own)


def test_without_the_losses_nothing_is_learned_and_no_second_head_is_built():
    torch.manual_seed(0)
    model = MixClassifier(VIT, {'type': 'LinearHead', 'num_classes': 5}, {'type': 'SMMix', **PLAIN})
    assert not list(model.policy.parameters())
    assert set(model.loss(noise(5, 3, 32, 32), LABELS)) == {'loss_main', 'agreement'}


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_trains_all_three_losses(dtype):
    model = MixClassifier(VIT, {'type': 'LinearHead', 'num_classes': 5}, {'type': 'SMMix'}).to(dtype)
    total, terms = model.parse_losses(model.loss(noise(5, 3, 32, 32).to(dtype), LABELS))
    total.backward()
    assert bool(terms['loss_fine_term'].isfinite())
    assert bool(model.policy.fine_head.weight.grad.any())


def test_a_regression_has_no_classes_to_be_consistent_in():
    def built(**arguments):
        head, policy = {'type': 'LinearHead', 'num_classes': 1}, {'type': 'SMMix', **arguments}
        return MixClassifier(VIT, head, policy, {'type': 'RegressionLoss'}, target='regression')

    with pytest.raises(InputError, match=r'SMMix\(consistency=1.0\).*target is regression: give consistency=0'):
        built()
    terms = built(consistency=0).loss(noise(5, 3, 32, 32), noise(5))
    assert set(terms) == {'loss_main', 'loss_fine_term'}
    assert all(bool(term.isfinite()) for term in terms.values())


def test_multi_hot_labels_train_all_three_losses():
    torch.manual_seed(0)
    model = MixClassifier(
        VIT, {'type': 'LinearHead', 'num_classes': 5}, {'type': 'SMMix'}, BinaryCrossEntropy(), target='multilabel'
    )
    terms = model.loss(noise(5, 3, 32, 32), F.one_hot(LABELS, 5).float())
    assert set(terms) == {'loss_main', 'loss_fine_term', 'loss_consistency_term'}
    assert all(bool(term.isfinite()) for term in terms.values())


@pytest.mark.parametrize('arguments', [
    {'sides': 0.5}, {'sides': (0.5,)}, {'sides': (0.0, 0.5)}, {'sides': (0.6, 0.5)}, {'sides': (0.5, 1.0)},
    {'sides': 'ab'}, {'sides': (True, 0.5)}, {'pairing': 'roll'}, {'fine': -1.0}, {'fine': True},
    {'consistency': float('inf')}, {'consistency': None},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError, match=rf'SMMix\({next(iter(arguments))}='):
        SMMix(**arguments)
