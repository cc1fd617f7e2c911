"""SUMix: learned weights and the uncertainty loss, against plain loops."""

import math

import pytest
import torch
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, CutMix, Mixture, Mixup, Plan, RandomChoice, Vanilla, View
from openmixup.policies.base import MixPolicy
from openmixup.policies.static.kmixup import KMixup
from openmixup.policies.wrap.sumix import SUMix

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 4, 2, 2])
LOGITS = 2 * torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
CLEAN = 2 * torch.randn(6, 5, generator=torch.Generator().manual_seed(2))


class Output:
    def __init__(self, logits, features=None):
        self.logits, self.features = logits, features


class Given(MixPolicy):
    """The weights that a test writes down."""

    def __init__(self, index, weight):
        super().__init__()
        self.mixture = Mixture(torch.tensor(index), torch.tensor(weight))

    def plan(self, batch, ctx):
        return Plan(batch, (View(batch.images, self.mixture),), self)


def finished(policy, mixed=LOGITS, clean=CLEAN, labels=LABELS, target='class', features=(None, None)):
    """The plan before and after ``finish``."""
    ctx = Context()
    plan = policy(Batch(torch.zeros(len(labels), 3, 4, 4), labels, target=target), ctx)
    return plan, policy.finish(plan, (Output(mixed, features[0]), Output(clean, features[1])), ctx)


def weights(policy, *args, **options):
    plan, done = finished(policy, *args, **options)
    return plan.views[0].mixture.weight, done.views[0].mixture.weight


def alpha_by_loops(mixed, clean, own, others, scale):
    """The distance vector of one source, in plain numbers."""
    p, q = mixed.softmax(0).tolist(), clean.softmax(0).tolist()
    for c in others:
        if c != own:
            q[c] = 0.0
    e = [math.exp(a - b) for a, b in zip(p, q, strict=True)]
    e = [value / sum(e) for value in e]
    length = math.sqrt(sum(value**2 for value in e))
    return [scale * value / length for value in e]


@pytest.mark.parametrize('inner', [CutMix(per='sample'), Mixup(0.5), KMixup(0.3, 3)])
@pytest.mark.parametrize(('direction', 'sign'), [('published', -1), ('closeness', 1)])
def test_weights_equal_loops(inner, direction, sign):
    plan, done = finished(SUMix(inner, direction, gamma=0.0, scale=7.0))
    mixture = plan.views[0].mixture
    expected = []
    for i, (index, start) in enumerate(zip(mixture.index.tolist(), mixture.weight.tolist(), strict=True)):
        classes = [LABELS[source].item() for source in index]
        w = [
            start[k] * math.exp(sign * alpha_by_loops(LOGITS[i], CLEAN[source], classes[k], classes, 7.0)[classes[k]])
            for k, source in enumerate(index)
        ]
        expected.append([value / sum(w) for value in w])
    torch.testing.assert_close(done.views[0].mixture.weight, torch.tensor(expected))
    assert torch.equal(done.views[0].mixture.index, mixture.index)
    assert not torch.allclose(done.views[0].mixture.weight, mixture.weight, atol=0.01)
    assert not done.losses


def sure(first, second, share=(0.85, 0.05), count=100):
    """Logits with the probabilities ``share`` of two classes and the rest spread evenly."""
    p = torch.full((count,), (1 - sum(share)) / (count - 2))
    p[first], p[second] = share
    return p.log()


@pytest.mark.parametrize(('share', 'published'), [((0.85, 0.05), 0.005), ((0.05, 0.85), 0.995), ((0.45, 0.45), 0.5)])
def test_the_published_sign_prefers_what_the_mixture_resembles_less(share, published):
    """Of 100 classes, clean images seen with 0.9: what resembles a more gives a less weight, unless it is turned."""
    clean = torch.stack([sure(0, 1, (0.9, 0.1 / 99)), sure(1, 0, (0.9, 0.1 / 99))])
    inner = Given([[0, 1]], [[0.5, 0.5]])
    for direction, expected in (('published', published), ('closeness', 1 - published)):
        policy = SUMix(inner, direction, gamma=0.0)
        _, after = weights(policy, sure(0, 1, share)[None], clean, torch.tensor([0, 1]))
        assert float(after[0, 0]) == pytest.approx(expected, abs=5e-4)


def test_weights_do_not_depend_on_the_batch():
    """The published code multiplies by the batch size."""
    small = weights(SUMix(Given([[0, 1]], [[0.6, 0.4]]), gamma=0.0), LOGITS[:1], CLEAN[:2], LABELS[:2])[1]
    large = weights(SUMix(Given([[0, 1]] * 6, [[0.6, 0.4]] * 6), gamma=0.0), LOGITS[[0] * 6], CLEAN)[1]
    torch.testing.assert_close(large, small.expand(6, 2))


def test_each_sample_has_weights_of_its_own_and_sums_stay():
    inner = Given([[0, 1, 2], [1, 2, 0], [2, 0, 1]], [[1.0, 0.0, 0.0], [0.9, 0.6, 0.0], [0.0, 0.0, 0.0]])
    _, after = weights(SUMix(inner, gamma=0.0), LOGITS[:3], CLEAN[:3], LABELS[:3])
    assert torch.equal(after[0], torch.tensor([1.0, 0.0, 0.0]))
    assert float(after[1].sum()) == pytest.approx(1.5)
    assert after[1, 2] == 0
    assert torch.equal(after[2], torch.zeros(3))
    pair = weights(SUMix(Mixup(), gamma=0.0, scale=5.0))[1]
    assert len(pair.unique(dim=0)) > 3  # one lam for the batch went in


def test_uncertainty_loss_equals_loops():
    features = torch.randn(2, 6, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    policy = SUMix(Mixup(per='sample', pairing='flip'), gamma=0.7, scale=3.0)
    policy._build(4, 5)
    plan, done = finished(policy, features=features)
    layer, total = policy.uncertainty_head, 0.0
    mixed, clean = (
        [
            [value / math.sqrt(sum(v**2 for v in row)) for value in row]
            for row in (part.mean((2, 3)) @ layer.weight.T + layer.bias).softmax(1).tolist()
        ]
        for part in features
    )
    for i in range(6):
        classes = [LABELS[i].item(), LABELS[5 - i].item()]
        for k, source in enumerate((i, 5 - i)):
            alpha = alpha_by_loops(LOGITS[i], CLEAN[source], classes[k], classes, 3.0)
            z = [math.exp(-(mixed[i][c] + clean[source][c] + alpha[c])) for c in range(5)]
            ce = math.log(sum(math.exp(value) for value in z)) - z[classes[k]]
            total += plan.views[0].mixture.weight[i, k].item() * ce / 6
    assert done.losses['sumix'].item() == pytest.approx(0.7 * total, rel=1e-5)


def test_soft_labels_name_their_class():
    policy = SUMix(KMixup(per='sample'), gamma=0.0)
    soft = 0.9 * functional.one_hot(LABELS, 5).float() + 0.02
    torch.testing.assert_close(weights(policy)[1], weights(policy, labels=soft, target='soft')[1])


def test_no_gradient_flows_through_the_weights():
    after = weights(SUMix(gamma=0.0), LOGITS.clone().requires_grad_(), CLEAN.clone().requires_grad_())[1]
    assert not after.requires_grad


@pytest.mark.parametrize('gamma', [0.0, 0.5])
def test_the_learner_learns_the_new_weights_and_the_layer(gamma):
    torch.manual_seed(0)
    backbone = {'type': 'CifarResNet', 'depth': 8, 'width': 4}
    policy = SUMix(Mixup(per='sample'), 'closeness', gamma)
    model = MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, policy)
    model.student.eval()
    losses = model(IMAGES, LABELS, mode='loss')
    plan = model.last_plan
    view, clean = plan.views
    assert clean.share == 0
    assert torch.equal(clean.inputs, IMAGES)
    assert not torch.equal(view.mixture.weight, plan.inner.views[0].mixture.weight)
    expected = functional.cross_entropy(model(view.inputs), view.mixture.soft(LABELS, 5))
    torch.testing.assert_close(losses['loss_main'], expected)
    assert ('loss_sumix_term' in losses) == (gamma > 0) == any('uncertainty' in name for name in model.state_dict())
    if gamma:
        losses['loss_sumix_term'].backward()
        assert float(policy.uncertainty_head.weight.grad.abs().max()) > 0
        assert any(p.grad is not None for p in model.student.backbone.parameters())


def test_sources_of_a_bank_are_seen_clean():
    inner = Given([[0, 3], [1, 2]], [[0.5, 0.5], [0.5, 0.5]])
    batch = Batch(IMAGES[:2], LABELS[:2], bank=Batch(IMAGES[2:4], LABELS[2:4]))
    policy = SUMix(inner, gamma=0.0, scale=4.0)
    plan = policy(batch, Context())
    assert torch.equal(plan.views[1].inputs, IMAGES[:4])
    after = policy.finish(plan, (Output(LOGITS[:2]), Output(CLEAN[:4])), Context()).views[0].mixture.weight
    a = alpha_by_loops(LOGITS[0], CLEAN[0], 0, [0, 4], 4.0)[0]
    b = alpha_by_loops(LOGITS[0], CLEAN[3], 4, [0, 4], 4.0)[4]
    assert float(after[0, 0]) == pytest.approx(1 / (1 + math.exp(a - b)), rel=1e-5)


def test_what_is_not_mixed_costs_no_further_pass():
    policy = SUMix(RandomChoice([Mixup(), Vanilla()], probs=[0.0, 1.0]))
    assert len(policy(Batch(IMAGES, LABELS), Context()).views) == 1
    assert policy.sometimes_unused
    assert not SUMix().sometimes_unused


@pytest.mark.parametrize('label_weight', [0.0, 0.5])
def test_the_layer_has_a_gradient_whatever_the_views_count(label_weight):
    policy = SUMix({'type': 'InfiniteClassMixup', 'label_weight': label_weight})
    model = MixClassifier({'type': 'CifarResNet', 'depth': 8}, {'type': 'LinearHead', 'num_classes': 5}, policy)
    total, terms = model.parse_losses(model.loss(IMAGES, LABELS))
    total.backward()
    assert not policy.sometimes_unused
    assert policy.uncertainty_head.weight.grad is not None
    assert (float(terms['loss_sumix_term']) == 0) == (label_weight == 0)


def test_the_library_door_is_shut():
    with pytest.raises(InputError, match='needs logits of a network'):
        SUMix().mix(IMAGES, LABELS)


@pytest.mark.parametrize(('options', 'match'), [
    ({'direction': 'closenes'}, "did you mean 'closeness'"),
    ({'gamma': -0.1}, 'at least 0'),
    ({'gamma': float('nan')}, 'at least 0'),
    ({'scale': 0}, 'above 0'),
    ({'scale': True}, 'above 0'),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        SUMix(**options)


def test_values_have_no_class():
    with pytest.raises(InputError, match='target is regression'):
        weights(SUMix(gamma=0.0), labels=torch.randn(6), target='regression')
