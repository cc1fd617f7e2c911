"""TokenMixup: easy samples, assigned partners, tokens and labels by saliency."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, Network
from openmixup.policies.token.tokenmixup import TokenMixup, assigned, difficulty, gains, mixed_tokens
from openmixup.testing import CHECKS
from openmixup.testing.networks import TinyTransformer

SIZE, GRID, CLASSES = 6, (3, 4), 5
IMAGES = torch.randn(SIZE, 3, 12, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
NETWORK = Network(CLASSES, 8, ('a', 'b', 'c'), (8, 8, 8), (-1, -1, -1))


class Says:
    """A probe whose answer a test writes down."""

    def __init__(self, logits, maps):
        self.logits, self.maps, self.asked = logits, maps, []

    def look(self, images, read):
        self.asked.append((images is IMAGES, read))
        return SimpleNamespace(logits=self.logits, **{read[0]: self.maps})


def rng(seed):
    return torch.Generator().manual_seed(seed)


def some_maps(seed=0, size=SIZE):
    return (2 * torch.randn(size, *GRID, generator=rng(seed))).exp()


def sure_of(easy):
    """(N, C) logits that are certain of the labels of the easy samples and of a wrong one of the others."""
    said = torch.where(torch.tensor(easy), LABELS, (LABELS + 1) % CLASSES)
    return 20 * torch.nn.functional.one_hot(said, CLASSES).float()


def planned(maps, easy=(True,) * SIZE, **options):
    policy = TokenMixup(**options)
    policy.bind(NETWORK)
    probe = Says(sure_of(easy), maps)
    return policy(Batch(IMAGES, LABELS), Context(probe=probe)), probe


@pytest.mark.parametrize('rho', [0.0, 0.02])
@pytest.mark.parametrize('seed', range(4))
def test_tokens_and_labels_follow_the_saliency_of_both(seed, rho):
    maps = some_maps(seed)
    plan, probe = planned(maps, rho=rho)
    (view,) = plan.views
    assert probe.asked == [(True, ('rollout',))]
    assert view.inputs is IMAGES
    assert view.tap.stage == 1
    saliency = maps.numpy().reshape(SIZE, -1).astype(np.float64)
    saliency /= saliency.sum(1, keepdims=True)
    tokens = torch.randn(SIZE, 2 + saliency.shape[1], 8, generator=rng(9))  # two tokens before the patches
    mixed = view.tap.function(tokens)
    for i, partner in enumerate(view.mixture.index[:, 1].tolist()):
        assert partner != i
        own, theirs = 0.0, 0.0
        assert torch.equal(mixed[i, :2], tokens[i, :2])
        for t in range(saliency.shape[1]):
            replaced = saliency[partner, t] > saliency[i, t] + rho
            assert torch.equal(mixed[i, 2 + t], tokens[partner if replaced else i, 2 + t])
            own += 0 if replaced else saliency[i, t]
            theirs += saliency[partner, t] if replaced else 0
        assert float(view.mixture.weight[i, 0]) == pytest.approx(own / (own + theirs), abs=1e-6)
        assert float(view.mixture.weight[i].sum()) == pytest.approx(1)


@pytest.mark.parametrize('rho', [0.0, 0.005])
def test_only_easy_samples_are_mixed_and_with_each_other(rho):
    easy = [True, False, True, True, False, True]
    plan, _ = planned(some_maps(), easy, rho=rho)
    (view,) = plan.views
    partner = view.mixture.index[:, 1]
    hard = [1, 4]
    assert partner[hard].tolist() == hard
    assert sorted(partner.tolist()) == list(range(SIZE))
    assert all(int(partner[i]) != i for i in (0, 2, 3, 5))
    tokens = torch.randn(SIZE, 1 + 12, 8, generator=rng(1))
    changed = (view.tap.function(tokens) != tokens).flatten(1).any(1)
    assert changed.tolist() == easy
    assert torch.equal(view.mixture.weight[hard], torch.tensor([[1.0, 0.0]] * 2))
    for few in ([False] * SIZE, [True] + [False] * 5):
        plan, _ = planned(some_maps(), few)
        assert torch.equal(plan.views[0].mixture.index[:, 1], torch.arange(SIZE))
        assert torch.equal(plan.views[0].tap.function(tokens), tokens)


def test_difficulty_is_half_the_distance_of_prediction_and_label():
    logits = torch.randn(SIZE, CLASSES, generator=rng(3))
    p = logits.softmax(1)
    soft = torch.rand(SIZE, CLASSES, generator=rng(4)).softmax(1)
    hard = torch.nn.functional.one_hot(LABELS, CLASSES).float()
    by_class = difficulty(logits, Batch(IMAGES, LABELS))
    torch.testing.assert_close(by_class, 1 - p[torch.arange(SIZE), LABELS])
    torch.testing.assert_close(by_class, difficulty(logits, Batch(IMAGES, hard, target='soft')))
    by_hand = [
        sum(abs(a - b) for a, b in zip(x, y, strict=True)) / 2 for x, y in zip(p.tolist(), soft.tolist(), strict=True)
    ]
    torch.testing.assert_close(difficulty(logits, Batch(IMAGES, soft, target='soft')), torch.tensor(by_hand))


def test_a_sample_is_easy_up_to_tau():
    logits = torch.tensor(
        [[math.log(p), math.log(1 - p), -99.0, -99.0, -99.0] for p in (0.69, 0.71, 0.9, 0.71, 0.2, 0.69)]
    )
    policy = TokenMixup(tau=0.3)
    policy.bind(NETWORK)
    plan = policy(Batch(IMAGES, torch.zeros(SIZE, dtype=torch.long)), Context(probe=Says(logits, some_maps())))
    assert (plan.views[0].mixture.index[:, 1] != torch.arange(SIZE)).tolist() == [False, True, True, True, False, False]


@pytest.mark.parametrize('rho', [0.0, 0.02, 0.5])
def test_gains_are_what_the_partner_has_more(rho):
    saliency = some_maps(5).flatten(1)
    saliency = saliency / saliency.sum(1, keepdim=True)
    expected = (saliency[None] - saliency[:, None] - rho).clamp_min(0).sum(2)
    torch.testing.assert_close(gains(saliency, rho), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize('size', [2, 3, 4, 6, 7])
def test_the_assignment_is_nearly_the_best_of_all(size):
    own, share = torch.arange(size), []
    for seed in range(20):
        saliency = some_maps(seed, size).flatten(1)
        gain = gains(saliency / saliency.sum(1, keepdim=True), 0.005)
        partner = assigned(gain, torch.ones(size, dtype=torch.bool), own)
        assert sorted(partner.tolist()) == own.tolist()
        table = gain.fill_diagonal_(0).tolist()
        best = max(sum(table[i][j] for i, j in enumerate(each)) for each in itertools.permutations(range(size)))
        share.append(sum(table[i][j] for i, j in enumerate(partner.tolist())) / best)
    assert max(share) <= 1 + 1e-6
    assert np.mean(share) > 0.98


@pytest.mark.parametrize('gain', [torch.zeros(40, 40), torch.ones(40, 1) * torch.arange(40) / 40])
def test_equal_gains_make_a_permutation_too(gain):
    for easy in (torch.ones(40, dtype=torch.bool), torch.arange(40) % 4 > 0):
        partner = assigned(gain, easy, torch.arange(40))
        assert sorted(partner.tolist()) == list(range(40))
        assert torch.equal(partner[~easy], torch.arange(40)[~easy])


@pytest.mark.parametrize('name', ['attention', 'received'])
def test_saliency_of_the_last_block_is_the_mean_of_its_heads(name):
    maps = some_maps(2)
    first = 2 * maps * torch.rand(maps.shape, generator=rng(8))
    heads = torch.stack([first, 2 * maps - first], 1)
    (by_heads, probe), (whole, _) = planned(heads, saliency=name), planned(maps)
    assert probe.asked == [(True, (name,))]
    assert torch.equal(by_heads.views[0].mixture.index, whole.views[0].mixture.index)
    torch.testing.assert_close(by_heads.views[0].mixture.weight, whole.views[0].mixture.weight)


def test_tokens_of_both_get_gradient_and_a_map_is_mixed_by_its_cells():
    tokens = torch.randn(2, 5, 3, generator=rng(0)).requires_grad_()
    kept = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    mixed = mixed_tokens(tokens, torch.tensor([1, 0]), kept)
    (gradient,) = torch.autograd.grad(mixed[0].sum(), tokens)
    assert gradient[..., 0].tolist() == [[1, 1, 0, 1, 1], [0, 0, 1, 0, 0]]
    grid = torch.randn(2, 3, 4, 4, generator=rng(1))
    expected = grid.clone()
    expected[0, :, :2, 2:] = grid[1, :, :2, 2:]
    assert torch.equal(mixed_tokens(grid, torch.tensor([1, 0]), kept), expected)


@pytest.mark.parametrize('check', [
    'memory_layout_does_not_matter', 'dtype_is_kept', 'mixes_at_its_rate', 'finish_is_sound',
    'gradients_go_where_they_should', 'identical_images_stay_identical', 'weights_are_sound',
])  # fmt: skip
def test_it_passes_the_checks_that_see_little_where_nothing_is_easy(check):
    CHECKS[check].__wrapped__(TokenMixup(tau=1.0, rho=0.0).train())


def test_a_learner_mixes_behind_the_block_and_sees_the_weights():
    torch.manual_seed(0)
    learner = MixClassifier(
        TinyTransformer(),
        {'type': 'LinearHead', 'num_classes': CLASSES},
        {'type': 'TokenMixup', 'tau': 1.0, 'stage': -2},
    ).train()
    losses = learner(IMAGES, LABELS, mode='loss')
    (view,) = learner.last_plan.views
    assert view.tap.stage == 1
    learner.parse_losses(losses)[0].backward()
    assert all(part.grad is not None for part in learner.student.backbone.blocks[0].parameters())
    learner.eval()
    with torch.no_grad():  # the same by hand
        tokens, backbone = [], learner.student.backbone
        handle = backbone.blocks[1].register_forward_hook(lambda module, args, output: tokens.append(output))
        backbone.features(IMAGES)
        handle.remove()
        rest = backbone.norm(backbone.blocks[2](view.tap.function(tokens[0])))
        expected = learner.student.heads['main'](backbone.pool(rest))
        torch.testing.assert_close(learner.student(IMAGES, view.tap).logits, expected)


@pytest.mark.parametrize(('options', 'message'), [
    ({'tau': 1.5}, 'tau=1.5.*from 0 to 1'),
    ({'tau': True}, 'tau=True'),
    ({'rho': -0.1}, 'rho=-0.1.*at least 0'),
    ({'rho': math.inf}, 'rho=inf'),
    ({'stage': 1.0}, 'stage=1.0.*whole number'),
    ({'saliency': 'rolout'}, "saliency='rolout'.*did you mean 'rollout'"),
])  # fmt: skip
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TokenMixup(**options)


def test_what_it_cannot_work_with_is_refused():
    with pytest.raises(InputError, match=r'call bind\(network\) first'):
        TokenMixup()(Batch(IMAGES, LABELS), Context(probe=Says(sure_of([True] * SIZE), some_maps())))
    with pytest.raises(InputError, match='the target is multilabel'):
        TokenMixup().bind(Network(CLASSES, 8, ('a', 'b'), (8, 8), (-1, -1), target='multilabel'))
    with pytest.raises(InputError, match='TokenMixup asks for stage 5'):
        TokenMixup(stage=5).bind(NETWORK)
    head = {'type': 'LinearHead', 'num_classes': CLASSES}
    with pytest.raises(InputError, match='TokenMixup needs the attention of a class token'):
        MixClassifier({'type': 'CifarResNet', 'depth': 8}, head, {'type': 'TokenMixup'})
